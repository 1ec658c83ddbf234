package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"sportello.example/appliance/box"
	"sportello.example/appliance/clock"
	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/raster"
	"sportello.example/sync/hub/anpr/anprtest"
	"sportello.example/sync/hub/server"
	"sportello.example/sync/hub/spid/spidtest"
)

// clockFile is the environment variable that names the file with the error of the box's clock ("24h"). The box itself
// obeys nothing of the kind (see clock.Variable): the demo gives it a clock that is wrong.
const clockFile = "SPORTELLO_DEMO_CLOCK"

// parts are the hidden subcommands as which the demo starts itself again.
func parts(stdout, stderr io.Writer) []*cobra.Command {
	cmds := []*cobra.Command{boxCommand(stdout, stderr), rasterCommand(stdout), hubCommand(stdout, stderr), idpCommand(), registryCommand(stderr), printerCommand(stderr)}
	for _, c := range cmds {
		c.Hidden = true
	}
	return cmds
}

// boxCommand is the box's own command tree, with a clock that can be wrong.
func boxCommand(stdout, stderr io.Writer) *cobra.Command {
	moved := now
	if path := os.Getenv(clockFile); path != "" {
		var err error
		if moved, err = clock.File(path, now); err != nil {
			_, _ = fmt.Fprintf(stderr, "demo: error: the clock stays right: %v\n", err)
			moved = now
		}
	}
	return box.Command(box.Options{Name: "box", Now: moved, Stdout: stdout, Stderr: stderr})
}

// rasterCommand draws one PDF: the child process of box and tray.
func rasterCommand(stdout io.Writer) *cobra.Command {
	return &cobra.Command{Use: "raster", Short: "Draw a PDF", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return raster.Child(cmd.Context(), os.Stdin, stdout)
	}}
}

// idpCommand is SPID's identity provider, who knows every invented citizen.
func idpCommand() *cobra.Command {
	var addr, sp string
	cmd := &cobra.Command{Use: "idp", Short: "A SPID identity provider", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		var known []spidtest.Citizen
		for _, c := range anprtest.Citizens() {
			known = append(known, spidtest.Citizen{FiscalCode: c.FiscalCode, Name: c.Name, FamilyName: c.FamilyName})
		}
		idp, err := spidtest.New(spidtest.Config{Addr: addr, Citizens: known, SPMetadata: sp, Now: now})
		if err != nil {
			return err
		}
		return idp.Run(cmd.Context())
	}}
	cmd.Flags().StringVar(&addr, "addr", "127.0.0.1:0", "where it listens")
	cmd.Flags().StringVar(&sp, "sp", "", "where the hub's SAML metadata are")
	return cmd
}

// hubCommand is the hub's own command tree.
func hubCommand(stdout, stderr io.Writer) *cobra.Command {
	return server.Command(server.Options{Name: "hub", Stdout: stdout, Stderr: stderr})
}

// registryCommand is the registry, with its knobs on another address.
func registryCommand(stderr io.Writer) *cobra.Command {
	var addr, control string
	cmd := &cobra.Command{Use: "registry", Short: "The registry ANPR", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		r, err := anprtest.New(anprtest.Config{Addr: addr, Now: now, Log: slog.New(slog.NewTextHandler(stderr, nil))})
		if err != nil {
			return err
		}
		return together(cmd.Context(), r.Run, func(ctx context.Context) error { return serveControl(ctx, control, r.Control()) })
	}}
	cmd.Flags().StringVar(&addr, "addr", "127.0.0.1:0", "where it listens")
	cmd.Flags().StringVar(&control, "control", "127.0.0.1:0", "where its knobs are")
	return cmd
}

// printerCommand is a printer that announces itself, with its knobs on another address.
func printerCommand(stderr io.Writer) *cobra.Command {
	var addr, control, uuid string
	var interfaces []string
	cmd := &cobra.Command{Use: "printer", Short: "A printer that keeps its sheets", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		log := slog.New(slog.NewTextHandler(stderr, nil))
		p := ipptest.New(ipptest.Config{
			Name: "Stampante demo " + uuid[:min(4, len(uuid))], UUID: uuid, Addr: addr, TLS: true, Make: "Sportello virtual printer", Serial: "DEMO-0815",
			PageTime: 400 * time.Millisecond, Log: log, Now: now,
		})
		times := &jobTimes{}
		p.OnState(times.note)
		if err := p.Start(); err != nil {
			return err
		}
		defer p.Close()
		mux := http.NewServeMux()
		mux.Handle("/", p.Control())
		mux.HandleFunc("GET /processing", times.serve)
		return together(cmd.Context(),
			func(ctx context.Context) error { return p.Announce(ctx, interfaces) },
			func(ctx context.Context) error { return serveControl(ctx, control, mux) })
	}}
	cmd.Flags().StringVar(&addr, "addr", "127.0.0.1:0", "where the printer listens")
	cmd.Flags().StringVar(&control, "control", "127.0.0.1:0", "where its knobs are")
	cmd.Flags().StringVar(&uuid, "uuid", "", "its printer-uuid")
	cmd.Flags().StringSliceVar(&interfaces, "interface", nil, "network interface to announce itself on; none: all")
	return cmd
}

// jobTimes notes when jobs began to be printed.
type jobTimes struct {
	mu    sync.Mutex // guards began
	began []time.Time
	seen  map[int]bool
}

func (j *jobTimes) note(job int, state string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.seen == nil {
		j.seen = map[int]bool{}
	}
	if state != "processing" || j.seen[job] {
		return
	}
	j.seen[job] = true
	j.began = append(j.began, now().UTC())
}

func (j *jobTimes) serve(w http.ResponseWriter, _ *http.Request) {
	j.mu.Lock()
	defer j.mu.Unlock()
	writeJSON(w, j.began)
}

func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b)
}

// together runs things until one of them ends or ctx does, ends the others, and returns the first error.
func together(ctx context.Context, run ...func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make(chan error, len(run))
	var wg sync.WaitGroup
	for _, f := range run {
		wg.Go(func() {
			errs <- f(ctx)
			stop()
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// listen opens an address.
func listen(addr string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(context.Background(), "tcp", addr)
}

// serveControl serves h on a loopback address until ctx ends.
func serveControl(ctx context.Context, addr string, h http.Handler) error {
	ln, err := listen(addr)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return serveOn(ctx, ln, h)
}

// serveOn serves h until ctx ends; requests in flight get a moment, streams are cut.
func serveOn(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close()
		}
	}()
	err := srv.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) {
		<-done
		return nil
	}
	return fmt.Errorf("serve %s: %w", ln.Addr(), err)
}
