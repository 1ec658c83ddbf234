package server

import (
	"context"
	"time"

	"sportello.example/sync/hub/anpr"
	"sportello.example/sync/wire"
)

// noRegistry is the registry of a hub that was given none.
type noRegistry struct{}

// Family implements web.Registry.
func (noRegistry) Family(context.Context, string) ([]wire.Member, error) { return nil, anpr.ErrDown }

// Certificate implements web.Registry.
func (noRegistry) Certificate(context.Context, string, wire.CertificateRequest) ([]byte, error) {
	return nil, anpr.ErrDown
}

// Status implements web.Registry.
func (noRegistry) Status() (bool, time.Time) { return false, time.Time{} }
