package throttle

import "testing"

func TestPlace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ remote, want string }{
		{"192.0.2.7:1234", "192.0.2.7"},
		{"[::ffff:192.0.2.7]:1234", "192.0.2.7"},
		{"[2001:db8:1:2:3:4:5:6]:1234", "2001:db8:1:2::/64"},
		{"[fe80::7%eth0]:1234", "fe80::7%eth0"}, // all of the cable is in that network
		{"[::1]:1234", "::1"},
		{"@", ""},
	} {
		if got := Place(tt.remote); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.remote, got, tt.want)
		}
	}
}
