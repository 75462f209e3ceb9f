package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"github.com/go-weir/weir/cache"
)

// Product is something to buy. Price is in cents.
type Product struct {
	ID    int64
	Name  string
	About string
	Price int64
}

// Tags of what was made from products: of one, and of all of them.
const allProducts = "products"

func productTag(id int64) string { return fmt.Sprintf("product:%d", id) }

// catalog is all products, through the cache.
func (s *shop) catalog(ctx context.Context) ([]Product, error) {
	cache.Tag(ctx, allProducts) // of the page that is made, if one is
	return s.products.Load(ctx, "all", func(ctx context.Context) ([]Product, error) {
		cache.Tag(ctx, allProducts)
		return s.source.products(ctx)
	})
}

// showProducts and showProduct are kept by middleware.Cache, until the tags die. So
// they do not look at the session: what they say is for everybody.
func (s *shop) showProducts(w http.ResponseWriter, r *http.Request) {
	products, err := s.catalog(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	keepPage(w)
	s.show(w, r, http.StatusOK, "products", page{Title: "Products", Products: products}, products)
}

func (s *shop) showProduct(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(chi.URLParam(r, "id"), 10, 64)
	if err != nil {
		s.fail(w, r, cache.ErrNotFound)
		return
	}
	cache.Tag(r.Context(), productTag(id))
	product, err := s.source.product(r.Context(), id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	keepPage(w)
	s.show(w, r, http.StatusOK, "product", page{Title: product.Name, Product: product}, product)
}

// keepPage lets Weir keep a page for a minute, under a field that is meant for it
// alone, while browsers ask each time: Weir can be told of a change, they cannot. If
// the source fails, what was kept stands in.
func keepPage(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "public, no-cache")
	w.Header().Set(pageCacheField, "public, max-age=60, stale-if-error=600")
}

const pageCacheField = "Shop-Cache-Control"

// editProduct is the administrator's. The source is changed first, and then all that
// was made from it is purged: pages and typed data, in all processes.
func (s *shop) editProduct(w http.ResponseWriter, r *http.Request, _ User) {
	product, err := productOf(r)
	if err == nil {
		err = s.source.editProduct(r.Context(), product)
	}
	if err == nil {
		err = s.purger.Tags(r.Context(), productTag(product.ID), allProducts)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.done(w, r, http.StatusOK, "/admin", "The product is changed.", product)
}

func productOf(r *http.Request) (Product, error) {
	id, err := strconv.ParseInt(chi.URLParam(r, "id"), 10, 64)
	if err != nil {
		return Product{}, cache.ErrNotFound
	}
	price, err := cents(r.PostFormValue("price"))
	if err != nil {
		return Product{}, err
	}
	p := Product{ID: id, Name: strings.TrimSpace(r.PostFormValue("name")), About: strings.TrimSpace(r.PostFormValue("about")), Price: price}
	if n := utf8.RuneCountInString(p.Name); n < 1 || n > 80 || len(p.About) > 1000 || !utf8.ValidString(p.Name+p.About) {
		return Product{}, invalid("A product's name has 1 to 80 characters, and what is said about it 1000 bytes at most.")
	}
	return p, nil
}

func (s *source) products(ctx context.Context) ([]Product, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id, name, about, price FROM products ORDER BY id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Product
	for rows.Next() {
		var p Product
		if err := rows.Scan(&p.ID, &p.Name, &p.About, &p.Price); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, rows.Err()
}

func (s *source) product(ctx context.Context, id int64) (p Product, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT id, name, about, price FROM products WHERE id = ?`, id).Scan(&p.ID, &p.Name, &p.About, &p.Price)
	return p, found(err)
}

func (s *source) editProduct(ctx context.Context, p Product) error {
	n, err := s.exec(ctx, `UPDATE products SET name = ?, about = ?, price = ? WHERE id = ?`, p.Name, p.About, p.Price, p.ID)
	if err == nil && n == 0 {
		err = cache.ErrNotFound
	}
	return err
}
