package desired

import (
	"cmp"
	"slices"
	"time"
)

// Posted is a notice that a box has, and since when.
type Posted struct {
	Notice
	Received time.Time // by the box's clock when that was believed, else when the hub signed it
}

// active says whether a notice is to be shown at this time.
func (n Notice) active(now time.Time) bool {
	return !n.From.After(now) && (n.Until.IsZero() || now.Before(n.Until))
}

// rank is the order in which notices are shown. A severity that this program does not know counts as a warning.
func (s Severity) rank() int {
	switch s {
	case Emergency:
		return 0
	case Info:
		return 2
	}
	return 1
}

// sortNotices puts the gravest first and, of these, the newest.
func sortNotices(ns []Posted) {
	slices.SortStableFunc(ns, func(a, b Posted) int {
		return cmp.Or(cmp.Compare(a.Severity.rank(), b.Severity.rank()), b.Received.Compare(a.Received), cmp.Compare(a.ID, b.ID))
	})
}
