package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sportello.example/firmware/program"
	"sportello.example/sync/hub/ingest"
)

// alarmCommand returns the commands about what somebody should look at. They work beside a hub that is running.
func alarmCommand(f *flags) *cobra.Command {
	group := groupCommand("alarm", "List what somebody should look at, and say that it is dealt with", "alarms")
	var asJSON, all bool
	list := &cobra.Command{
		Use: "list", Short: "List alarms, latest first", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return doRecords(f, cmd, func(r *records, s settings) error {
				as, err := r.store.Alarms(cmd.Context(), all)
				if err != nil {
					return err
				}
				return printAlarms(cmd.OutOrStdout(), as, s.place, asJSON)
			})
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	list.Flags().BoolVar(&all, "all", false, "also those that are dealt with")
	done := &cobra.Command{
		Use: "done NUMBER", Short: "Say that an alarm is dealt with; when it comes again, it is open again",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &program.UsageError{Err: fmt.Errorf("%s needs the number of one alarm", cmd.CommandPath()), Hint: "“hub alarm list” shows the numbers"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || id < 1 {
				return &program.UsageError{Err: fmt.Errorf("%q is not the number of an alarm", args[0]), Hint: "“hub alarm list” shows the numbers"}
			}
			return doRecords(f, cmd, func(r *records, _ settings) error {
				err := r.store.AlarmDone(cmd.Context(), id, time.Now())
				if errors.Is(err, ingest.ErrNoAlarm) {
					return &program.HintError{Err: err, Hint: "“hub alarm list” shows the numbers"}
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "alarm %d is dealt with\n", id)
				return err
			})
		},
	}
	group.AddCommand(list, done)
	return group
}

// alarmRow is one alarm as "hub alarm list --json" prints it. Fields are only ever added.
type alarmRow struct {
	Alarm int64      `json:"alarm"`
	Box   uint32     `json:"box"`
	Kind  string     `json:"kind"` // see ingest.Alarm
	Text  string     `json:"text"`
	Count int        `json:"count"`
	First time.Time  `json:"first"`
	Last  time.Time  `json:"last"`
	Done  *time.Time `json:"done,omitempty"`
}

func printAlarms(out io.Writer, as []ingest.Alarm, place *time.Location, asJSON bool) error {
	if asJSON {
		rows := make([]alarmRow, len(as))
		for i, a := range as {
			rows[i] = alarmRow{Alarm: a.ID, Box: a.Box, Kind: a.Kind, Text: a.Text, Count: a.Count, First: a.First, Last: a.At}
			if !a.Done.IsZero() {
				rows[i].Done = &a.Done
			}
		}
		return json.NewEncoder(out).Encode(rows)
	}
	if len(as) == 0 {
		_, err := fmt.Fprintln(out, "no alarms")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ALARM\tBOX\tKIND\tTIMES\tLAST\tSTATE\tWHAT")
	for _, a := range as {
		state := "open"
		if !a.Done.IsZero() {
			state = "done"
		}
		_, _ = fmt.Fprintf(w, "%d\t%d\t%s\t%d\t%s\t%s\t%s\n", a.ID, a.Box, a.Kind, a.Count, a.At.In(place).Format("2006-01-02 15:04"), state, a.Text)
	}
	return w.Flush()
}
