package main

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-weir/weir/ratelimit/quota"
)

// account is a user's in the ledger. It is in cents.
func account(user int64) string { return "user " + strconv.FormatInt(user, 10) }

const mostTopUp = 500_00

// topUp adds to the user's credit: in a real shop, what a card has paid. The ledger
// knows the request by its key, so it counts once however often it is sent.
func (s *shop) topUp(w http.ResponseWriter, r *http.Request, user User) {
	amount, err := cents(r.PostFormValue("amount"))
	key := r.Header.Get("Idempotency-Key")
	switch {
	case err == nil && amount > mostTopUp:
		err = invalid("At most 500.00 at a time.")
	case err == nil && key == "":
		err = badRequest("The request needs an Idempotency-Key.")
	}
	var receipt quota.Receipt
	if err == nil {
		receipt, err = s.credits.TopUp(r.Context(), account(user.ID), amount, "top up "+key)
	}
	if err == nil && !receipt.OK {
		err = invalid("The account is full.")
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.done(w, r, http.StatusOK, "/", "Your credit is now "+money(receipt.Balance)+".", struct{ Balance int64 }{receipt.Balance})
}

func (s *shop) balance(ctx context.Context, user User) (int64, error) {
	receipt, err := s.credits.Balance(ctx, account(user.ID))
	return receipt.Balance, err
}

// cents reads an amount such as "12", "12.5" or "12.50", above 0.
func cents(s string) (int64, error) {
	whole, part, _ := strings.Cut(strings.TrimSpace(s), ".")
	units, err := strconv.ParseUint(whole, 10, 32)
	if err == nil && part != "" {
		if len(part) == 1 {
			part += "0"
		}
		var hundredths uint64
		if hundredths, err = strconv.ParseUint(part, 10, 8); len(part) == 2 {
			if amount := int64(units*100 + hundredths); err == nil && amount > 0 && amount <= 1_000_000_00 {
				return amount, nil
			}
		}
	} else if err == nil && units > 0 && units <= 1_000_000 {
		return int64(units) * 100, nil
	}
	return 0, invalid("Write an amount such as 12 or 12.50.")
}

// money writes an amount as people do.
func money(cents int64) string {
	return "€" + strconv.FormatInt(cents/100, 10) + "." + strconv.FormatInt(100+cents%100, 10)[1:]
}
