package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"sportello.example/appliance/box"
	"sportello.example/sync/hub/server"
)

// The branch of the demo.
const (
	branchName = "Biblioteca Valvassori Peroni"
	kiosks     = 2
)

// writeConfig writes a configuration file.
func writeConfig(path string, v any) error {
	b, err := toml.Marshal(v)
	if err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}

// writeHubConfig writes the hub's configuration. The identity provider's metadata go into a file, as they come from the
// register of SPID's providers.
func (s *stage) writeHubConfig(ctx context.Context) error {
	metadata, err := s.idpPage.get(ctx, "/metadata", nil)
	if err != nil {
		return fmt.Errorf("identity provider: %w", err)
	}
	idp := filepath.Join(s.dir, "idp.xml")
	if err := os.WriteFile(idp, metadata, 0o600); err != nil {
		return fmt.Errorf("identity provider: %w", err)
	}
	return writeConfig(filepath.Join(s.dir, "hub.toml"), server.Config{
		PublicAddress: s.addr.hub, PublicURL: "http://" + s.addr.hub, BoxAddress: s.addr.hubBox, Data: filepath.Join(s.dir, "hub"),
		Municipality: "Comune di Milano (dimostrazione)", ANPRURL: "http://" + s.addr.registry,
		SPID: server.SPID{IdPMetadata: []string{idp}},
	})
}

// enrol has the hub make a one-time token for the box, as an administrator would, and writes the box's configuration.
// A box that is a member already keeps its token, which is of no use to anybody any more.
func (s *stage) enrol(ctx context.Context) error {
	path := filepath.Join(s.dir, "box.toml")
	ca := filepath.Join(s.dir, "hub-ca.pem")
	var token string
	old, err := box.LoadConfig(path)
	if token = old.Token; err != nil {
		made, err := s.addBox(ctx)
		if err != nil {
			return err
		}
		token = made.Token
		pem, err := os.ReadFile(made.CA)
		if err != nil {
			return fmt.Errorf("the hub's certificate authority: %w", err)
		}
		if err := os.WriteFile(ca, pem, 0o600); err != nil {
			return fmt.Errorf("the hub's certificate authority: %w", err)
		}
	}
	pin, err := s.printerKnobs.Pin(ctx)
	if err != nil {
		return fmt.Errorf("the printer's key: %w", err)
	}
	return writeConfig(path, map[string]any{
		"listen": s.addr.box, "data": filepath.Join(s.dir, "box"), "hub": "https://" + s.line.addr, "hub_ca": ca, "token": token,
		"branch": branchName, "kiosks": kiosks,
		"printer":   []map[string]any{{"uuid": s.printerUUID, "pins": []string{pin}}}, // its address is what it announces
		"discovery": map[string]any{"interfaces": s.interfaces()},
		"intervals": map[string]any{"ping": "1s", "quiet": "1s", "probe": "1s", "gather": "500ms"},
	})
}

// newBox is what "hub box add --json" says.
type newBox struct {
	Token string `json:"token"`
	CA    string `json:"ca"` // path of the file
}

// addBox runs "hub box add".
func (s *stage) addBox(ctx context.Context) (newBox, error) {
	var made newBox
	err := s.command(ctx, &made, "hub", "box", "add", "--json", "--config", filepath.Join(s.dir, "hub.toml"),
		"--branch", branchName, "--kiosks", itoa(kiosks))
	return made, err
}

// command runs one of the commands that people use at the terminal of hub or box, and reads the JSON that it prints into
// v; nil: it prints none.
func (s *stage) command(ctx context.Context, v any, args ...string) error {
	out, err := s.say(ctx, args...)
	if err != nil || v == nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		return fmt.Errorf("%w: %s: %w", errPart, strings.Join(args[:min(len(args), 3)], " "), err)
	}
	return nil
}

// say runs one of those commands and returns what it prints.
func (s *stage) say(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.self, args...)
	cmd.Env = s.hub.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	name := strings.Join(args[:min(len(args), 3)], " ")
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %s: %w: %s", errPart, name, err, clip(strings.TrimSpace(stderr.String()), 300))
	}
	return strings.TrimSpace(stdout.String()), nil
}
