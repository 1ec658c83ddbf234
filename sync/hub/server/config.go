package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"
	_ "time/tzdata" // a server may have no time zones of its own

	"sportello.example/firmware/program"
)

// Config is a hub's configuration: one TOML file. The zero value of every field is usable: a hub without a file listens
// on loopback only, knows no identity provider and no registry.
type Config struct {
	PublicAddress string `toml:"public_address"` // where phones and the municipality come in; "": 127.0.0.1:8081
	PublicURL     string `toml:"public_url"`     // what they call it; "": made from the address
	TLSCert       string `toml:"tls_cert"`       // PEM file for the public address, read again when it changes; "": plain HTTP
	TLSKey        string `toml:"tls_key"`        // PEM file
	BehindProxy   bool   `toml:"behind_proxy"`   // plain HTTP is right: something else does the TLS

	BoxAddress string `toml:"box_address"` // where boxes come in; "": 127.0.0.1:8443
	Data       string `toml:"data"`        // folder of keys, and of the database when Database is ""; "": see program.StateDir
	Database   string `toml:"database"`    // address of a PostgreSQL database that hubs share; "": a file in Data

	Municipality string `toml:"municipality"` // name on the pages; "": Comune
	TimeZone     string `toml:"time_zone"`    // where days begin and end; "": Europe/Rome
	Log          string `toml:"log"`          // text or json; "": text

	ANPRURL string `toml:"anpr_url"` // address of the registry; "": certificates cannot be asked for
	SPID    SPID   `toml:"spid"`
}

// SPID says who the hub is to identity providers, and which there are.
type SPID struct {
	EntityID     string       `toml:"entity_id"`    // "": the public URL
	IdPMetadata  []string     `toml:"idp_metadata"` // files or https addresses; none: nobody can log in
	Organization Organization `toml:"organization"`
}

// Organization is the public body that answers for the service provider.
type Organization struct {
	Name        string `toml:"name"`
	DisplayName string `toml:"display_name"`
	URL         string `toml:"url"`
	IPACode     string `toml:"ipa_code"`
	Email       string `toml:"email"`
	Phone       string `toml:"phone"`
	Locality    string `toml:"locality"`
}

// LoadConfig reads a configuration file. A field it does not know is an error that says where. Errors are
// *program.UsageError.
func LoadConfig(path string) (Config, error) {
	var c Config
	if err := program.ReadConfig(path, &c, "“hub -h” lists the fields and what they mean"); err != nil {
		return Config{}, err
	}
	return c, nil
}

// settings are a Config with its defaults filled in and checked.
type settings struct {
	Config
	url    *url.URL // nil: made from the address once that is known
	place  *time.Location
	logger *slog.Logger // of what goes on in the background; nil: none
}

func (c Config) settings() (s settings, err error) {
	if c.PublicAddress == "" {
		c.PublicAddress = "127.0.0.1:8081"
	}
	if c.BoxAddress == "" {
		c.BoxAddress = "127.0.0.1:8443"
	}
	if c.Municipality == "" {
		c.Municipality = "Comune"
	}
	if c.TimeZone == "" {
		c.TimeZone = "Europe/Rome"
	}
	if c.Data == "" {
		if c.Data, err = program.StateDir("hub"); err != nil {
			return settings{}, err
		}
	}
	s.Config = c
	if s.place, err = time.LoadLocation(c.TimeZone); err != nil {
		return settings{}, &program.UsageError{Err: fmt.Errorf("time_zone: %w", err), Hint: "names look like Europe/Rome"}
	}
	for _, a := range []struct{ name, addr string }{{"public_address", c.PublicAddress}, {"box_address", c.BoxAddress}} {
		if _, _, err := net.SplitHostPort(a.addr); err != nil {
			return settings{}, &program.UsageError{Err: fmt.Errorf("%s: %w", a.name, err), Hint: "addresses look like 127.0.0.1:8081, or :8081 for all interfaces"}
		}
	}
	if c.Database != "" && !strings.HasPrefix(c.Database, "postgres://") && !strings.HasPrefix(c.Database, "postgresql://") {
		// Not quoted: there may be a password in it.
		return settings{}, &program.UsageError{Err: errors.New("database: not an address of PostgreSQL"), Hint: "addresses look like postgres://hub:password@db.comune.example/hub; leave it out to keep everything in one file"}
	}
	if c.Log != "" && c.Log != "text" && c.Log != "json" {
		return settings{}, &program.UsageError{Err: fmt.Errorf("log: %q is neither text nor json", c.Log)}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return settings{}, &program.UsageError{Err: errors.New("tls_cert and tls_key belong together"), Hint: "set both, or none"}
	}
	if c.TLSCert == "" && !c.BehindProxy && !loopback(c.PublicAddress) {
		return settings{}, &program.UsageError{
			Err:  fmt.Errorf("public_address %s would serve citizens' logins without encryption", c.PublicAddress),
			Hint: "set tls_cert and tls_key; or behind_proxy = true when a proxy in front does the TLS",
		}
	}
	if c.PublicURL != "" {
		s.url, err = url.Parse(c.PublicURL)
		if err != nil || s.url.Host == "" || s.url.Scheme != "https" && s.url.Scheme != "http" || strings.Trim(s.url.Path, "/") != "" || s.url.RawQuery != "" {
			return settings{}, &program.UsageError{Err: fmt.Errorf("public_url: %q is not an address such as https://sportello.comune.example", c.PublicURL)}
		}
		s.url.Path = ""
	}
	return s, nil
}

// publicURL returns what phones call the hub that listens at addr.
func (s settings) publicURL(addr net.Addr) *url.URL {
	if s.url != nil {
		return s.url
	}
	u := &url.URL{Scheme: "http", Host: addr.String()}
	if s.TLSCert != "" {
		u.Scheme = "https"
	}
	return u
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
