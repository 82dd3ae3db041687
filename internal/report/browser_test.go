package report

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/explain"
)

// browser returns the path of a Chromium, "" if none is installed.
func browser() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// A browser shows the page: its text and its image are there, nothing is wrong with it, and it requests nothing.
func TestBrowser(t *testing.T) {
	chromium := browser()
	if chromium == "" {
		t.Skip("no Chromium is installed; make deps installs that of Debian")
	}
	inUTC(t)
	for language, want := range map[explain.Language][]string{
		explain.English: {"What needs attention", "148 B unread", "Read until EOF before close(2)."},
		explain.Chinese: {"需要关注的结束", "148 B unread", "随时间的分布"},
	} {
		page := htmlOf(t, collect(t, usual()...), options(language))
		dom, console, requests := open(t, chromium, page)
		for _, text := range append(want, `<svg class="ladder"`) {
			if !strings.Contains(dom, text) {
				t.Errorf("%s: %q is not in what the browser has", language, text)
			}
		}
		if console != "" || len(requests) != 0 {
			t.Errorf("%s: console %q, requests %q", language, console, requests)
		}
	}
}

// The test of the browser notices what must not be: a script and a request, which the policy refuses.
func TestBrowserNotices(t *testing.T) {
	chromium := browser()
	if chromium == "" {
		t.Skip("no Chromium is installed; make deps installs that of Debian")
	}
	const picture = `<img src="/picture.png">`
	if _, _, requests := open(t, chromium, picture); len(requests) != 1 {
		t.Errorf("requests %q", requests)
	}
	page := htmlOf(t, collect(t, usual()...), options(explain.English))
	page = strings.Replace(page, "<main>", "<main><script>document.title='x'</script>"+picture, 1)
	if _, console, requests := open(t, chromium, page); !strings.Contains(console, "Content Security Policy") ||
		len(requests) != 0 {
		t.Errorf("console %q, requests %q", console, requests)
	}
}

// open returns what a browser makes of a page, what it prints to its console, and what else it requests.
func open(t *testing.T, chromium, page string) (dom, console string, requests []string) {
	t.Helper()
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(page))
			return
		case "/favicon.ico": // which a browser requests for any page of a server
		default:
			mu.Lock()
			requests = append(requests, r.URL.Path)
			mu.Unlock()
		}
		http.NotFound(w, r)
	}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--user-data-dir="+filepath.Join(dir, "profile"), "--enable-logging=stderr", "--dump-dom", server.URL)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	for line := range strings.Lines(stderr.String()) {
		if strings.Contains(line, "CONSOLE") {
			console += line
		}
	}
	mu.Lock()
	defer mu.Unlock()
	return string(out), console, requests
}
