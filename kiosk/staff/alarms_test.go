package staff

import (
	"fmt"
	"testing"
)

func TestNamesTakenOnTheNetworkHideNoOtherAlarm(t *testing.T) {
	var a Alarms
	for i := range 2 * maxAlarms { // somebody on the network claims each name that the box takes
		a.Raise(Alarm{
			Kind: AlarmName, Subject: "Sportello", Name: "sportello.local", Old: fmt.Sprintf("sportello-%d.local", i), New: fmt.Sprintf("sportello-%d.local", i+1),
		})
	}
	if !a.Raise(Alarm{Kind: AlarmKey, Subject: "u", Old: "a", New: "b"}) {
		t.Error("another key is not told: the list is full of names")
	}
	t.Log(len(a.List()))
}
