package box

import (
	"errors"
	"fmt"
	"time"
	_ "time/tzdata" // a box may have no time zones of its own

	"sportello.example/firmware/program"
)

// Config is a box's configuration: one TOML file. The zero value of every field is usable: a box without a file serves
// self-declarations on loopback, knows no hub and adopts no printer.
type Config struct {
	Listen string `toml:"listen"` // address of the kiosk's pages; "": 127.0.0.1:8080
	Data   string `toml:"data"`   // folder of the database and the keys; "": see program.StateDir
	Hub    string `toml:"hub"`    // https URL of the hub's box interface; "": no hub
	HubCA  string `toml:"hub_ca"` // PEM file with the hub's certificate authority
	Token  string `toml:"token"`  // one-time token of "hub box add", needed until the box is enrolled
	Branch string `toml:"branch"` // name of the branch, until the hub has told it
	Kiosks int    `toml:"kiosks"` // kiosks of the branch, until the hub has told it; 0: 1

	Printers  []Printer `toml:"printer"`
	Discovery Discovery `toml:"discovery"`
	TimeZone  string    `toml:"time_zone"` // of the clocks people see; "": Europe/Rome
	Hosts     []string  `toml:"hosts"`     // names the kiosk's browser may call the box by, besides its addresses
	Log       string    `toml:"log"`       // text or json; "": text
	Intervals Intervals `toml:"intervals"`
	MaxPages  int       `toml:"max_pages"` // largest database, in pages of 4 KiB; 0: 262144 (1 GiB)
	KeepDays  int       `toml:"keep_days"` // how long what the hub has acknowledged is kept at most; 0: 30
}

// Printer is a printer that the file's author has seen: with its keys, a port of its own, or an accepted risk, documents
// may go there. With nothing but an address it waits on the staff page to be adopted.
type Printer struct {
	UUID      string   `toml:"uuid"`      // as the printer announces it, with or without "urn:uuid:"
	URI       string   `toml:"uri"`       // ipp:// or ipps://; "": wait until it announces itself
	Pins      []string `toml:"pins"`      // SHA-256 of the printer's TLS public keys, hexadecimal
	Interface string   `toml:"interface"` // network port of the box that leads to this printer only
	Risk      *Risk    `toml:"risk"`      // it is spoken to in the clear, and somebody answers for that
}

// Risk is who answers for a printer without TLS.
type Risk struct {
	By    string    `toml:"by"`
	Why   string    `toml:"why"`
	At    time.Time `toml:"at"`    // when that was decided
	Until time.Time `toml:"until"` // at most a year later; then nothing goes there any more
}

// Discovery says how the box finds printers and is found.
type Discovery struct {
	Interfaces []string `toml:"interfaces"` // names of network interfaces; none: all that do multicast
	Announce   bool     `toml:"announce"`   // announce the box's own pages by mDNS
	Host       string   `toml:"host"`       // name to answer for by mDNS, without ".local"; "": sportello-<branch>
}

// Intervals are how often things are looked at. Zero values mean the defaults.
type Intervals struct {
	Ping  Duration `toml:"ping"`  // the hub, while somebody is at a kiosk; 5s
	Quiet Duration `toml:"quiet"` // the hub, while nobody is; 1m0s
	Probe Duration `toml:"probe"` // the printers, while nobody is at a kiosk; 30s, and at most 5s while somebody is
	Idle  Duration `toml:"idle"`  // a session without a touch ends; 2m30s
	// Gather is how long an event that is not urgent waits for others to go to the hub with it; 10s.
	Gather Duration `toml:"gather"`
}

// Duration is a time.Duration written as "1m30s".
type Duration time.Duration

// UnmarshalText reads "1m30s".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as \"5s\"", b)
	}
	if v < 0 {
		return fmt.Errorf("%q is less than nothing", b)
	}
	*d = Duration(v)
	return nil
}

// LoadConfig reads a configuration file. A field it does not know is an error that says where.
func LoadConfig(path string) (Config, error) {
	var c Config
	if err := program.ReadConfig(path, &c, "“appliance -h” lists the fields and what they mean"); err != nil {
		return Config{}, err
	}
	return c, nil
}

// minPages is the smallest queue worth the name, in pages of 4 KiB: a megabyte.
const minPages = 256

func (c *Config) defaults() error {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:8080"
	}
	if c.Data == "" {
		dir, err := program.StateDir("box")
		if err != nil {
			return err
		}
		c.Data = dir
	}
	if c.Kiosks == 0 {
		c.Kiosks = 1
	}
	if c.TimeZone == "" {
		c.TimeZone = "Europe/Rome"
	}
	if c.Kiosks < 0 || c.Kiosks > 99 {
		return &program.UsageError{Err: fmt.Errorf("kiosks = %d: a branch has 1 to 99", c.Kiosks)}
	}
	if c.Intervals.Ping == 0 {
		c.Intervals.Ping = Duration(5 * time.Second)
	}
	if c.Intervals.Quiet == 0 {
		c.Intervals.Quiet = max(Duration(time.Minute), c.Intervals.Ping)
	}
	if c.MaxPages == 0 {
		c.MaxPages = 262144
	}
	if c.MaxPages < minPages {
		return &program.UsageError{
			Err:  fmt.Errorf("max_pages = %d: the queue needs at least %d", c.MaxPages, minPages),
			Hint: "a page has 4 KiB; leave max_pages out for 1 GiB",
		}
	}
	if c.KeepDays == 0 {
		c.KeepDays = 30
	}
	if c.KeepDays < 1 || c.KeepDays > 3650 {
		return &program.UsageError{Err: fmt.Errorf("keep_days = %d: what the hub has is kept for 1 to 3650 days", c.KeepDays)}
	}
	switch c.Log {
	case "", "text", "json":
	default:
		return &program.UsageError{Err: fmt.Errorf("log = %q: it is text or json", c.Log)}
	}
	if c.Hub != "" && c.HubCA == "" {
		return &program.UsageError{
			Err:  errors.New("hub is set and hub_ca is not"),
			Hint: "copy the CA file that “hub box add” names to the box and set hub_ca to its path",
		}
	}
	return nil
}
