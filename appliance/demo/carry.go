package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"sportello.example/appliance/box"
)

// stickFolder is where the USB stick of the demo is "put in", at the box and at the hub.
const stickFolder = "stick"

// carry takes what waits in the box's queue to the hub on a stick, and its answer back: the two commands of the box and
// the one of the hub that a person with a stick in a pocket would type. It returns how many events were in the file.
func (s *stage) carry(ctx context.Context) (events uint64, err error) {
	dir := filepath.Join(s.dir, stickFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("stick: %w", err)
	}
	boxConfig, hubConfig := filepath.Join(s.dir, "box.toml"), filepath.Join(s.dir, "hub.toml")
	var out box.Exported
	if err := s.command(ctx, &out, "box", "export", "--json", "--config", boxConfig, dir); err != nil {
		return 0, err
	}
	var reply struct {
		Reply string `json:"reply"`
	}
	if err := s.command(ctx, &reply, "hub", "import", "--json", "--config", hubConfig, out.File); err != nil {
		return 0, err
	}
	return out.Events, s.command(ctx, nil, "box", "import", "--config", boxConfig, reply.Reply)
}

// noticeState is what the municipality says on the kiosks.
type noticeState string

// The notices of the demo.
const (
	noticeNone      noticeState = "none"
	noticeInfo      noticeState = "info"
	noticeEmergency noticeState = "emergency"
)

// notices are their words in the languages that kiosks speak.
var notices = map[noticeState]map[string]string{
	noticeInfo: {
		"it": "Sabato 28 la biblioteca chiude alle 13.",
		"en": "On Saturday 28 the library closes at 1 pm.",
	},
	noticeEmergency: {
		"it": "Allerta meteo: la biblioteca chiude adesso. Esca con calma.",
		"en": "Weather alert: the library is closing now. Please leave calmly.",
	},
}

// setNotice takes back the notice that is up, and puts up another, as somebody in the town hall would.
func (s *stage) setNotice(ctx context.Context, to noticeState) error {
	text, ok := notices[to]
	if !ok && to != noticeNone {
		return fmt.Errorf("notice %q: %w", to, errUnknown)
	}
	config := filepath.Join(s.dir, "hub.toml")
	s.mu.Lock()
	old := s.noticeID
	s.mu.Unlock()
	if old != "" {
		if err := s.command(ctx, nil, "hub", "notice", "remove", "--config", config, old); err != nil {
			return err
		}
	}
	id := ""
	if ok {
		var made []struct {
			ID string `json:"id"`
		}
		err := s.command(ctx, &made, "hub", "notice", "add", "--json", "--config", config, "--severity", string(to),
			"--text", text["it"], "--text-en", text["en"])
		if err != nil {
			return err
		}
		if len(made) == 1 {
			id = made[0].ID
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notice, s.noticeID = to, id
	return nil
}
