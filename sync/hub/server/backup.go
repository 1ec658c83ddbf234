package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sportello.example/firmware/program"
	"sportello.example/provisioning/durable"
	"sportello.example/sync/hub/sqlite"
)

// A backup in a folder is named by the time it was begun, UTC.
const (
	backupPrefix = "hub-"
	backupLayout = "20060102T150405Z"
)

const aboutBackup = `Write a copy of the database to a new file, while the hub goes on. When PATH is a folder, the file is
named by the time.

The copy is verified. Then boxes are told that what is in it is safe: they forget those events, and
keep all others until the next backup, 30 days at most. So make backups often, to another disk, and
keep the last ones. The folders “keys” and “ca” are not in it and never change after the first start
but for “hub key”: keep a copy of them in a safe place too.`

const aboutRestore = `Put a backup in the place of the database. The hub must not run. The backup is verified and kept, and
the database that was there is set aside beside it. When the hub runs again, boxes deliver again what
it does not have.`

// backupCommands returns the commands that copy the database and put a copy in its place.
func backupCommands(f *flags) []*cobra.Command {
	keep := 0
	backup := &cobra.Command{
		Use: "backup PATH", Short: "Copy the database, and tell boxes that what is in the copy is safe", Long: aboutBackup, Args: onePath,
		RunE: func(cmd *cobra.Command, args []string) error {
			if keep < 0 {
				return &program.UsageError{Err: fmt.Errorf("--keep %d", keep), Hint: "say how many backups to keep, or 0 for all"}
			}
			return doRecords(f, cmd, func(r *records, s settings) error {
				suffix := ".db"
				if s.Database != "" {
					suffix = ".dump"
				}
				file, dir, err := backupFile(args[0], suffix, time.Now())
				if err != nil {
					return err
				}
				if keep > 0 && dir == "" {
					return &program.UsageError{Err: errors.New("--keep is for a folder of backups"), Hint: "name the folder instead of a file"}
				}
				if err := r.store.Backup(cmd.Context(), file); err != nil {
					return &program.HintError{Err: err, Hint: "nothing was changed; boxes keep their events. Look at the disk, and try again"}
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", file); err != nil {
					return err
				}
				return prune(dir, suffix, keep)
			})
		},
	}
	backup.Flags().IntVar(&keep, "keep", 0, "keep only the last `number` of backups in the folder; 0: all")
	restore := &cobra.Command{
		Use: "restore FILE", Short: "Put a backup in the place of the database", Long: aboutRestore, Args: onePath,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.load(cmd)
			if err != nil {
				return err
			}
			s, err := c.settings()
			if err != nil {
				return err
			}
			if s.Database != "" {
				return &program.UsageError{Err: errors.New("the database is PostgreSQL's"), Hint: "stop all hubs, and use “pg_restore --clean --if-exists --no-owner -d ADDRESS FILE”"}
			}
			if err := durable.Dir(s.Data); err != nil {
				return &program.UsageError{Err: fmt.Errorf("data folder: %w", err), Hint: "name a folder that this user may write to with --data"}
			}
			aside, err := sqlite.Restore(cmd.Context(), filepath.Join(s.Data, "hub.db"), args[0], time.Now())
			switch {
			case errors.Is(err, sqlite.ErrLocked):
				return &program.HintError{Err: err, Hint: "stop the hub, and whatever else uses its data folder, then try again"}
			case errors.Is(err, sqlite.ErrBackup):
				return &program.HintError{Err: err, Hint: "nothing was changed; try an older backup"}
			case err != nil:
				return err
			}
			out := cmd.OutOrStdout()
			if aside != "" {
				if _, err := fmt.Fprintf(out, "the database that was there is now %s\n", aside); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintln(out, "restored: start the hub, and boxes deliver again what it does not have")
			return err
		},
	}
	return []*cobra.Command{backup, restore}
}

func onePath(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return &program.UsageError{Err: fmt.Errorf("%s needs one path", cmd.CommandPath()), Hint: fmt.Sprintf("“%s -h” says more", cmd.CommandPath())}
	}
	return nil
}

// backupFile returns the file to write, and the folder of backups it is in, "" when a file was named.
func backupFile(path, suffix string, now time.Time) (file, dir string, err error) {
	st, err := os.Stat(path)
	switch {
	case err == nil && st.IsDir():
		return filepath.Join(path, backupPrefix+now.UTC().Format(backupLayout)+suffix), path, nil
	case err == nil:
		return "", "", &program.UsageError{Err: fmt.Errorf("%s: %w", path, fs.ErrExist), Hint: "name a new file, or a folder"}
	case !errors.Is(err, fs.ErrNotExist):
		return "", "", err
	case strings.HasSuffix(path, string(filepath.Separator)):
		return "", "", &program.UsageError{Err: err, Hint: "make the folder first"}
	}
	return path, "", nil
}

// prune removes all but the last backups of a folder. Other files are left alone.
func prune(dir, suffix string, keep int) error {
	if dir == "" || keep == 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var ours []string
	for _, e := range entries {
		stamp, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), suffix), backupPrefix)
		if _, err := time.Parse(backupLayout, stamp); ok && err == nil && strings.HasSuffix(e.Name(), suffix) && e.Type().IsRegular() {
			ours = append(ours, e.Name())
		}
	}
	slices.Sort(ours)
	for _, name := range ours[:max(0, len(ours)-keep)] {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("remove old backup: %w", err)
		}
	}
	return nil
}
