package server

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/wire"
)

func TestPrintBoxes(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	oldest, acked := now.Add(-50*time.Hour), now.Add(-30*time.Minute-time.Hour)
	bs := []fleet.Box{{
		Number: 3, Branch: "Biblioteca Harar", Kiosks: 2, Enrolled: now, Contact: now, Pending: 12, Drift: -time.Hour, Alarms: 4, Gaps: 1, Forks: 2,
		Report: &wire.Report{
			Time: now.Add(-time.Hour), Clock: "synced", Release: "2026.11", Epoch: "00112233445566778899aabbccddeeff", Dead: 5, Gaps: 2, State: 17,
			Streams: []wire.StreamReport{{Stream: envelope.Legal, Queued: 2, Oldest: &oldest, LastAck: &acked}, {Stream: envelope.Stats, Queued: 10}, {Stream: envelope.Diag}},
			Disk:    wire.DiskReport{State: "warn", Used: 750, Limit: 1000},
		},
	}, {Number: 4, Branch: "Niguarda", Kiosks: 1, Pending: fleet.PendingUnknown}}
	var text, asJSON bytes.Buffer
	if err := printBoxes(&text, bs, time.UTC, now, false); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text.String(), "\n")
	for _, want := range []string{
		"3 Biblioteca Harar 2 enrolled 2026-11-22 09:00 12 (legal 2, stats 10) 2 days 2026-11-22 08:30 5 3 2 4 00112233 warn 75% 17",
		"4 Niguarda 1 waits for enrolment never - - - 0 0 0 0 - - -",
	} {
		lines = lines[1:]
		if got := strings.Join(strings.Fields(lines[0]), " "); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if err := printBoxes(&asJSON, bs, time.UTC, now, true); err != nil {
		t.Fatal(err)
	}
	var rows []boxRow
	if err := json.Unmarshal(asJSON.Bytes(), &rows); err != nil || len(rows) != 2 || rows[0].Oldest == nil || !rows[0].Oldest.Equal(oldest.Add(time.Hour)) || rows[0].Desired != 17 {
		t.Errorf("got %s, %v", asJSON.Bytes(), err)
	}
}

func TestPrintAlarms(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	as := []ingest.Alarm{
		{ID: 2, Box: 3, Kind: ingest.AlarmFork, Text: "two histories", Count: 1, First: now, At: now},
		{ID: 1, Box: 3, Kind: ingest.AlarmGap, Text: "5 events missing", Count: 7, First: now, At: now, Done: now},
	}
	var text, asJSON bytes.Buffer
	if err := printAlarms(&text, as, time.UTC, false); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(strings.Fields(text.String()), " "); !strings.Contains(got, "2 3 fork 1 2026-11-22 09:00 open two histories 1 3 gap 7 2026-11-22 09:00 done 5 events missing") {
		t.Errorf("got %s", got)
	}
	var rows []alarmRow
	if err := printAlarms(&asJSON, as, time.UTC, true); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(asJSON.Bytes(), &rows); err != nil || len(rows) != 2 || rows[0].Done != nil || rows[1].Done == nil {
		t.Errorf("got %s, %v", asJSON.Bytes(), err)
	}
}
