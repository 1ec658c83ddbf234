package server

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sportello.example/firmware/program"
	"sportello.example/provisioning/durable"
	"sportello.example/sync/hub/sqlite"
)

// A backup in a folder is named by the time it was begun, UTC. When there is one of that time or a later one already, as
// after the clock was set back, it has that one's time and the next number: names sort in the order of making.
const (
	backupPrefix = "hub-"
	backupLayout = "20060102T150405Z"
	backupNumber = "_%04d"
)

const aboutBackup = `Write a copy of the database to a new file, while the hub goes on. When PATH is a folder, the file is
named by the time; with a clock that is behind, by that of the newest backup there and a number.

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
					return &program.UsageError{
						Err:  fmt.Errorf("--keep is for a folder of backups, and %s is none", args[0]),
						Hint: "name a folder; if it should be there, see whether its disk is mounted, else make it first",
					}
				}
				if err := r.store.Backup(cmd.Context(), file); err != nil {
					return &program.HintError{Err: err, Hint: "nothing was changed; boxes keep their events. Look at the disk, and try again"}
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", file); err != nil {
					return err
				}
				return prune(file, dir, suffix, keep)
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
		last := backupName{made: now.UTC().Truncate(time.Second)}
		there, err := backupsIn(path, suffix)
		if err != nil {
			return "", "", err
		}
		if n := len(there); n > 0 && !there[n-1].made.Before(last.made) {
			last = backupName{made: there[n-1].made, number: max(there[n-1].number, 1) + 1}
		}
		return filepath.Join(path, last.file(suffix)), path, nil
	case err == nil:
		return "", "", &program.UsageError{Err: fmt.Errorf("%s: %w", path, fs.ErrExist), Hint: "name a new file, or a folder"}
	case !errors.Is(err, fs.ErrNotExist):
		return "", "", err
	case strings.HasSuffix(path, string(filepath.Separator)):
		return "", "", &program.UsageError{Err: err, Hint: "make the folder first"}
	}
	return path, "", nil
}

// backupName is the name of a backup in a folder.
type backupName struct {
	made   time.Time
	number int // 0: it has none
}

func (n backupName) file(suffix string) string {
	name := backupPrefix + n.made.Format(backupLayout)
	if n.number > 0 {
		name += fmt.Sprintf(backupNumber, n.number)
	}
	return name + suffix
}

// backupsIn returns the backups in a folder in the order of making.
func backupsIn(dir, suffix string) (names []backupName, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		stamp, number, numbered := strings.Cut(strings.TrimPrefix(strings.TrimSuffix(e.Name(), suffix), backupPrefix), "_")
		var n backupName
		if n.made, err = time.Parse(backupLayout, stamp); err != nil {
			continue
		}
		if numbered {
			if n.number, err = strconv.Atoi(number); err != nil {
				continue
			}
		}
		if n.file(suffix) == e.Name() && e.Type().IsRegular() {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b backupName) int { return cmp.Or(a.made.Compare(b.made), cmp.Compare(a.number, b.number)) })
	return names, nil
}

// prune removes all but the last backups of a folder, and never the one that was just made: boxes rely on it. Other files
// are left alone.
func prune(made, dir, suffix string, keep int) error {
	if dir == "" || keep == 0 {
		return nil
	}
	ours, err := backupsIn(dir, suffix)
	if err != nil {
		return err
	}
	for _, n := range ours[:max(0, len(ours)-keep)] {
		name := filepath.Join(dir, n.file(suffix))
		if name == made {
			continue
		}
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("remove old backup: %w", err)
		}
	}
	return nil
}
