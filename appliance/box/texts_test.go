package box

import (
	"strings"
	"testing"

	"sportello.example/appliance/printing"
	"sportello.example/kiosk/locale"
	"sportello.example/kiosk/staff"
)

// TestEveryReasonHasWords sees to it that staff can read, in every language, whatever a printer may say is wrong.
func TestEveryReasonHasWords(t *testing.T) {
	texts, err := locale.Load()
	if err != nil {
		t.Fatal(err)
	}
	reasons := printing.Reasons()
	if len(reasons) < 30 {
		t.Fatalf("%d reasons: RFC 8011 §5.4.12 alone has more", len(reasons))
	}
	for _, l := range texts.Languages() {
		for _, r := range reasons {
			if text, err := l.T("staff.reason." + r); err != nil || text == "" || strings.Contains(r, "-") && strings.Contains(text, r) {
				t.Errorf("%s: reason %s: %q, %v", l.Tag, r, text, err)
			}
		}
		for _, kind := range []staff.AlarmKind{
			staff.AlarmKey, staff.AlarmIdentity, staff.AlarmDuplicate, staff.AlarmSheet, staff.AlarmUncertain, staff.AlarmRisk, staff.AlarmName,
		} {
			if !l.Has("staff.alarm." + string(kind)) {
				t.Errorf("%s: no words for the alarm %s", l.Tag, kind)
			}
		}
	}
}
