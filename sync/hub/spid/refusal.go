package spid

import "fmt"

// Why says in one word what is wrong with a part of a Response.
type Why string

// What can be wrong.
const (
	Missing   Why = "missing"
	Empty     Why = "empty"
	Malformed Why = "malformed"
	Mismatch  Why = "mismatch" // not the value that this request wants
	Unknown   Why = "unknown"  // not a value that there is
	TooEarly  Why = "too early"
	TooLate   Why = "too late"
	TooMany   Why = "too many"
	TooBig    Why = "too big"
	TooLow    Why = "too low"
	Misplaced Why = "misplaced"
	Forbidden Why = "forbidden"
	Invalid   Why = "invalid" // a signature that does not verify
)

// RefusedError is why a Response is not believed. It names the part of the message (Element/Child or Element@Attribute)
// and never says what stood there, so it may be logged.
type RefusedError struct {
	Part string
	Why  Why
}

func (e *RefusedError) Error() string { return fmt.Sprintf("response refused: %s %s", e.Part, e.Why) }

func refuse(part string, why Why) error { return &RefusedError{Part: part, Why: why} }

// StatusError is an IdP's answer that there is no login, with the number of AgID's table of error codes, or 0 when it
// gave none. SPID's IdPs do not sign it. The IdP's own message is never shown.
type StatusError struct{ Code int }

func (e *StatusError) Error() string {
	return fmt.Sprintf("identity provider answered ErrorCode nr%02d", e.Code)
}

// OurFault reports whether the IdP found our request malformed: somebody must look into it.
func (e *StatusError) OurFault() bool { return e.Code >= 8 && e.Code <= 18 }

// Text returns what the citizen reads, in Italian or ("en") English.
func (e *StatusError) Text(lang string) string {
	t, ok := statusTexts[e.Code]
	switch {
	case !ok && e.OurFault():
		t = [2]string{
			fmt.Sprintf("Il servizio non è al momento disponibile (codice %02d).", e.Code),
			fmt.Sprintf("The service is not available at the moment (code %02d).", e.Code),
		}
	case !ok:
		t = [2]string{"L'accesso con SPID non è riuscito.", "The login with SPID did not succeed."}
	}
	if lang == "en" {
		return t[1]
	}
	return t[0]
}

// statusTexts are our words for the anomalies that a citizen can do something about.
var statusTexts = map[int][2]string{
	19: {
		"Accesso non riuscito: le credenziali inserite non sono corrette. Riprova più tardi o chiedi aiuto al tuo gestore SPID.",
		"Login failed: the credentials entered are not correct. Try again later or ask your SPID provider for help.",
	},
	20: {
		"Per questo servizio serve SPID di livello 2 (con app o codice temporaneo). Attivalo dal tuo gestore SPID.",
		"This service needs SPID level 2 (with an app or a temporary code). You can activate it with your SPID provider.",
	},
	21: {
		"È passato troppo tempo. Torna alla postazione e ricomincia: hai alcuni minuti.",
		"Too much time has passed. Go back to the kiosk and start again: you have a few minutes.",
	},
	22: {
		"Non hai dato il consenso all'invio dei dati: senza consenso non possiamo riconoscerti.",
		"You did not agree to sending your data: without it we cannot recognise you.",
	},
	23: {
		"La tua identità SPID è sospesa, revocata o bloccata. Contatta il tuo gestore SPID.",
		"Your SPID identity is suspended, revoked or blocked. Contact your SPID provider.",
	},
	25: {
		"Hai annullato l'accesso. Puoi ricominciare quando vuoi.",
		"You cancelled the login. You can start again whenever you like.",
	},
	30: {
		"Usa la tua identità SPID personale, non quella professionale o aziendale.",
		"Use your personal SPID identity, not the professional or business one.",
	},
}
