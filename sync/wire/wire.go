// Package wire holds the versioned messages that boxes and the hub exchange.
//
// Everything is JSON over HTTPS with the box's certificate (mTLS), from box to hub: the hub never calls a box.
// Fields are only ever added. A message that was released stays decodable for ever.
package wire

import (
	"time"
)

// Version is the protocol version this code speaks. Add a line below and raise it whenever a message changes meaning.
//
//   - 1: first
//   - 2: events as envelopes in chains (PathEvents2), signed acknowledgements, reports of the queue (PathReport),
//     desired state (PathState, PathBlobs)
const Version = 2

// Paths of the hub's box interface. {nonce} is the login's challenge nonce in lower-case hexadecimal (20 digits).
const (
	PathPing         = "/box/v1/ping"         // GET ?pending=EVENTS&time=UNIX_SECONDS, both optional: queue and clock of the box → Ping
	PathReport       = "/box/v2/report"       // POST Report → Ping
	PathEvents1      = "/box/v1/events"       // POST BatchV1 → AckV1, 409 AckV1 when the batch leaves a gap; boxes of the first release
	PathEvents2      = "/box/v2/events"       // POST envelope.Batch (TypeBatch), Content-Encoding zstd → Reply
	PathState        = "/box/v2/state"        // GET with If-None-Match, Prefer: wait=SECONDS (RFC 7240) → desired.Signed, 304
	PathBlobs        = "/box/v2/blobs/"       // GET {sha256}, Range → bytes
	PathLogins       = "/box/v1/logins/"      // GET {nonce}?wait=SECONDS → Login
	PathFamily       = "/box/v1/family/"      // GET {nonce} → Family
	PathCertificates = "/box/v1/certificates" // POST CertificateRequest → PDF with Content-Digest, or Problem
	PathCollect      = "/box/v1/collect"      // POST Collect → Request, or Problem
)

// Limits of what either side reads.
const (
	MaxJSON     = 1 << 20 // bytes of any JSON message
	MaxDocument = 5 << 20 // bytes of a certificate
	MaxBatch1   = 2000    // events of a BatchV1
)

// TypeBatch is the media type of an envelope.Batch.
const TypeBatch = "application/vnd.sportello.batch"

// Ping is the hub's answer to a box that asks whether the line is up.
type Ping struct {
	Version int       `json:"version"`
	Time    time.Time `json:"time"` // the hub's clock, UTC
	ANPR    bool      `json:"anpr"` // whether the hub's last word with the registry went well
}

// LoginState says how far the citizen's phone has got.
type LoginState string

// The states of a login, as the hub sees them.
const (
	LoginWaiting   LoginState = "waiting"   // nobody has finished yet
	LoginDone      LoginState = "done"      // Token holds the sealed identity
	LoginCancelled LoginState = "cancelled" // "No, annulla" or "Non sono io" on the phone
	LoginRefused   LoginState = "refused"   // the identity provider answered with an error
)

// Login is the hub's answer about one challenge.
type Login struct {
	State LoginState `json:"state"`
	Token []byte     `json:"token,omitempty"` // see crossdevice.OpenToken
}

// Family lists whom a certificate may be asked for: the person logged in and the members of their registered family
// (D.M. 3 November 2021, art. 2). The first member is the person logged in.
type Family struct {
	Members []Member `json:"members"`
}

// Member is one person of a family.
type Member struct {
	Ref         string `json:"ref"` // opaque, valid for this login only
	Name        string `json:"name"`
	FamilyName  string `json:"family_name"`
	YearOfBirth int    `json:"year_of_birth"`
}

// CertificateRequest asks the hub for a certificate on behalf of the person who logged in with Nonce.
type CertificateRequest struct {
	Nonce        string   `json:"nonce"`
	Certificates []string `json:"certificates"` // slugs of the catalogue, one or more (contestuale)
	Member       string   `json:"member"`       // Member.Ref, "" for the person logged in
	Recipient    string   `json:"recipient"`    // private | abroad | court
	Exemption    int      `json:"exemption"`    // ANPR table 39, 0: stamp duty is due
	Language     string   `json:"language"`
	// Pickup is the pick-up code of the request this certificate answers, "" when none. Once the hub has the
	// certificate, that request counts as collected.
	Pickup string `json:"pickup,omitempty"`
}

// Request is what a citizen chose and left behind while the line was down. It holds nobody's identity.
type Request struct {
	Code         string    `json:"code"` // pick-up code, six characters of PickupAlphabet
	Left         time.Time `json:"left"`
	Certificates []string  `json:"certificates"`
	Recipient    string    `json:"recipient"`
	Holder       string    `json:"holder"` // self | family
	Exemption    int       `json:"exemption"`
	Language     string    `json:"language"`
}

// PickupAlphabet has no vowel and no character that looks like another one.
const PickupAlphabet = "23456789CFGHJMPQRVWX"

// Collect asks for the Request left under Code. It may be asked for again until a certificate has answered it, see
// CertificateRequest: a login may fail in between, and the registry may be down.
type Collect struct {
	Code string `json:"code"`
}

// Problem is what the hub answers when it cannot do what was asked (status 4xx or 5xx). Code is one of the constants
// below; it holds no text, because the words a citizen reads are chosen at the kiosk.
type Problem struct {
	Code string `json:"code"`
}

// The codes of a Problem.
const (
	ProblemNotRegistered  = "not_registered"  // the citizen is not in the registry
	ProblemNotCertifiable = "not_certifiable" // the registry may not issue this certificate for this person
	ProblemRegistryDown   = "registry_down"   // the registry does not answer
	ProblemLoginUnknown   = "login_unknown"   // no such login, or it is over
	ProblemNoSuchRequest  = "no_such_request"
	ProblemTooMany        = "too_many" // slow down: too many wrong pick-up codes
	ProblemMalformed      = "malformed"
)
