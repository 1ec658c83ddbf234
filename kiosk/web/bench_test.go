package web

import (
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkPage measures how long the server takes for each page: the median and the 99th percentile.
func BenchmarkPage(b *testing.B) {
	for _, st := range states() {
		if strings.HasPrefix(st.name, "problem ") || strings.HasPrefix(st.name, "printing ") {
			continue // the same page with other words
		}
		b.Run(strings.NewReplacer(" ", "_", ",", "").Replace(st.name), func(b *testing.B) {
			br, w := in(b, st, "it")
			h := br.web.Handler()
			req := httptest.NewRequest("GET", w.base+"/k/1"+st.path, nil)
			if w.at != nil {
				for _, c := range w.client.Jar.Cookies(w.at) {
					req.AddCookie(c)
				}
			}
			var took []time.Duration
			size := 0
			for b.Loop() {
				rec := httptest.NewRecorder()
				start := time.Now()
				h.ServeHTTP(rec, req)
				took = append(took, time.Since(start))
				n, err := io.Copy(io.Discard, rec.Body)
				if err != nil {
					b.Fatal(err)
				}
				size = int(n)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(size)/1024, "KiB")
		})
	}
}
