package main

import (
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/go-weir/weir/internal/testkit"
)

// browser is a headless Chromium. Windows of one profile share cookies, as those of
// one device do.
type browser struct {
	t     *testing.T
	ctx   context.Context
	shots string // the folder of the screenshots

	mu         sync.Mutex
	complaints []string // of the console, but for statuses that a test asks for
}

// chromium starts one, or skips the test, loudly. With WEIR_REQUIRE_CHROMIUM=1, as
// in CI, that is a failure.
func chromium(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		const missing = "NOT PROVED IN A BROWSER: there is no chromium on the PATH. Remedy: apt-get install -y --no-install-recommends chromium"
		if os.Getenv("WEIR_REQUIRE_CHROMIUM") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	shots := os.Getenv("WEIR_SCREENSHOTS")
	if shots == "" {
		shots = t.ArtifactDir()
	}
	if err := os.MkdirAll(shots, 0o777); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.WindowSize(1280, 900)}
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it has none for root
	}
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithAllocatorOptions(options...))
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, shots: shots}
	b.do(ctx)
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.complaints) > 0 {
			t.Errorf("the browser complains: %s", strings.Join(b.complaints, "\n"))
		}
	})
	return b
}

func (b *browser) do(ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// window opens one, of the given width.
func (b *browser) window(profile context.Context, width int64, options ...chromedp.ContextOption) *window {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(profile, options...)
	console := chromedp.Console(ctx)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		b.hear(console)
	}()
	b.t.Cleanup(func() { cancel(); <-heard })
	b.do(ctx, chromedp.EmulateViewport(width, 900))
	return &window{b: b, ctx: ctx}
}

// window is a window, and what is done in it.
type window struct {
	b   *browser
	ctx context.Context
}

// hear notes what the console says: errors, exceptions, violations of the policy. That
// a status was 401, 402, 409 or 429 is what the test wanted.
func (b *browser) hear(console iter.Seq2[chromedp.ConsoleMessage, error]) {
	for m, err := range console {
		if err != nil {
			return // the window is closed
		}
		wanted := func(status string) bool { return strings.Contains(m.Text, "status of "+status) }
		if m.Source == "network" && slices.ContainsFunc([]string{"401", "402", "409", "429"}, wanted) {
			continue
		}
		b.mu.Lock()
		b.complaints = append(b.complaints, fmt.Sprintf("%s %s: %s (%s)", m.Source, m.Type, m.Text, m.URL))
		b.mu.Unlock()
	}
}

func (w *window) do(steps ...chromedp.Action[chromedp.Void]) {
	w.b.t.Helper()
	w.b.do(w.ctx, steps...)
}

func (w *window) open(url string) { w.b.t.Helper(); w.do(chromedp.Navigate(url)) }

// fill sets a field of a form.
func (w *window) fill(selector, value string) {
	w.b.t.Helper()
	w.do(chromedp.SetValue(chromedp.CSS(selector), value))
}

// press clicks, and waits for the page that comes of it.
func (w *window) press(selector string) {
	w.b.t.Helper()
	_, err := chromedp.RunResponse(w.ctx, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
	if err != nil {
		w.b.t.Fatalf("%s: %v", selector, err)
	}
}

// comes waits until an element says something.
func (w *window) comes(selector, text string) {
	w.b.t.Helper()
	testkit.Eventually(w.b.t, fmt.Sprintf("%q in %s", text, selector), func() bool {
		return strings.Contains(w.eval(fmt.Sprintf("document.querySelector(%q)?.textContent ?? ''", selector)), text)
	})
}

// eval is the string that an expression or a promise of one becomes.
func (w *window) eval(expression string) string {
	w.b.t.Helper()
	v, err := chromedp.Run(w.ctx, chromedp.Evaluate[string](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		w.b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// shoot keeps a picture of the whole page.
func (w *window) shoot(name string) {
	w.b.t.Helper()
	picture, err := chromedp.Run(w.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(w.b.shots, name+".png"), picture, 0o666)
	}
	if err != nil {
		w.b.t.Fatal(err)
	}
}
