package web

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"sportello.example/sync/citizen"
	"sportello.example/sync/hub/login"
	"sportello.example/sync/hub/moment"
)

// flows are the logins of phones, by the name that the cookie holds; parts are boxes.
var flows = moment.Space{Name: "phone", PerPart: perBox, Total: maxFlows}

// flow is one phone's login, from "Continua" to the code. The cookie holds its name; everything else stays at the hub.
type flow struct {
	visit login.Visit
	lang  string
	proof *citizen.IdentityProof // of a browser that came back without the cookie, until it has confirmed
	code  string                 // "" before the login
}

// storedFlow is a flow as it is kept.
type storedFlow struct {
	Visit login.Visit  `json:"visit"`
	Lang  string       `json:"lang"`
	Proof *storedProof `json:"proof,omitempty"`
	Code  string       `json:"code,omitempty"`
}

// storedProof is a citizen.IdentityProof whose names can be read again: those of package citizen print as "***".
type storedProof struct {
	Scheme        citizen.Scheme `json:"scheme"`
	Level         uint8          `json:"level"`
	FiscalCode    string         `json:"fiscal_code"`
	Name          string         `json:"name"`
	FamilyName    string         `json:"family_name"`
	At            time.Time      `json:"at"`
	TransactionID string         `json:"transaction_id"`
}

func (f flow) encode() ([]byte, error) {
	s := storedFlow{Visit: f.visit, Lang: f.lang, Code: f.code}
	if p := f.proof; p != nil {
		s.Proof = &storedProof{p.Scheme, p.Level, p.FiscalCode.Reveal(), p.Name.Reveal(), p.FamilyName.Reveal(), p.At, p.TransactionID}
	}
	return json.Marshal(s)
}

// errFlow means that a stored flow cannot be read. The cause might quote it.
var errFlow = errors.New("stored login cannot be read")

func decodeFlow(b []byte) (flow, error) {
	var s storedFlow
	if err := json.Unmarshal(b, &s); err != nil {
		return flow{}, errFlow
	}
	f := flow{visit: s.Visit, lang: s.Lang, code: s.Code}
	if p := s.Proof; p != nil {
		code, err := citizen.ParseFiscalCode(p.FiscalCode)
		if err != nil {
			return flow{}, errFlow
		}
		f.proof = &citizen.IdentityProof{
			Scheme: p.Scheme, Level: p.Level, FiscalCode: code, Name: citizen.NewName(p.Name), FamilyName: citizen.NewName(p.FamilyName),
			At: p.At, TransactionID: p.TransactionID,
		}
	}
	return f, nil
}

// begin remembers f under a new name and gives that to the browser. When too many phones answer one challenge, the one
// that came first is forgotten; when there are too many at the box or at the hub, the error is errManyFlows.
func (p *phones) begin(c echo.Context, f *flow) error {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return err
	}
	name := hex.EncodeToString(b)
	value, err := f.encode()
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	e := moment.Entry{Part: strconv.FormatUint(uint64(f.visit.Box()), 10), Value: value, Until: p.cfg.Now().Add(flowFor)}
	var drop []string
	err = p.moments.Add(ctx, flows, name, e, func(others []moment.Named) (_ []string, err error) {
		drop, err = makeRoom(others, f.visit)
		return drop, err
	})
	if errors.Is(err, moment.ErrFull) {
		return errManyFlows
	}
	if err != nil {
		return err
	}
	for _, name := range drop {
		if err := p.spid.Forget(ctx, name); err != nil {
			return err
		}
	}
	cookie := p.cookie
	cookie.Value = name
	c.SetCookie(&cookie)
	return nil
}

// makeRoom says which flow makes room for one more of v's challenge. A flow that has its code stays.
func makeRoom(others []moment.Named, v login.Visit) (drop []string, err error) {
	n := 0
	for _, o := range others {
		f, err := decodeFlow(o.Value)
		if err != nil {
			return nil, err
		}
		if f.code == "" && f.visit.Same(v) {
			if n++; n == 1 {
				drop = []string{o.Key}
			}
		}
	}
	if n < perChallenge {
		return nil, nil
	}
	return drop, nil
}

// name returns what the browser's cookie says, "" when it has none.
func (p *phones) name(c echo.Context) string {
	ck, err := c.Cookie(p.cookie.Name)
	if err != nil {
		return ""
	}
	return ck.Value
}

// flow returns the flow of the browser.
func (p *phones) flow(c echo.Context) (string, flow, error) {
	name := p.name(c)
	f, err := p.find(c.Request().Context(), name)
	return name, f, err
}

// find returns a flow. It fails with errFlowGone.
func (p *phones) find(ctx context.Context, name string) (flow, error) {
	if name == "" || len(name) > maxName {
		return flow{}, errFlowGone
	}
	e, err := p.moments.Read(ctx, flows, name)
	if errors.Is(err, moment.ErrNone) {
		return flow{}, errFlowGone
	}
	if err != nil {
		return flow{}, fmt.Errorf("login of a phone: %w", err)
	}
	return decodeFlow(e.Value)
}

// change changes a flow, if it is still there.
func (p *phones) change(ctx context.Context, name string, do func(*flow)) error {
	return p.moments.Change(ctx, flows, name, func(e *moment.Entry, there bool) error {
		if !there {
			return nil
		}
		f, err := decodeFlow(e.Value)
		if err != nil {
			return err
		}
		do(&f)
		e.Value, err = f.encode()
		return err
	})
}

// forget forgets a flow with its AuthnRequest: those would pile up otherwise, and the limits on flows would be none on
// them.
func (p *phones) forget(ctx context.Context, name string) error {
	err := p.moments.Change(ctx, flows, name, func(e *moment.Entry, _ bool) error {
		*e = moment.Entry{}
		return nil
	})
	return errors.Join(err, p.spid.Forget(ctx, name))
}
