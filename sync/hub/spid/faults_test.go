package spid_test

import (
	"errors"
	"testing"

	"sportello.example/sync/citizen"
	"sportello.example/sync/hub/spid"
	"sportello.example/sync/hub/spid/spidtest"
)

// refusals are what Verify must say of each fault: the part of the Response, and what is wrong with it.
var refusals = map[string]string{
	"2": "Assertion/Signature missing", "3": "Assertion/Signature missing", "4": "Response/Signature invalid", "5": "Response/Signature invalid",
	"100": "Assertion/Signature invalid", "112": "EntityDescriptor misplaced", "113": "EntityDescriptor misplaced",
	"changed": "Assertion/Signature invalid", "response-changed": "Response/Signature invalid", "sha1": "SignatureMethod@Algorithm forbidden",
	"hmac": "SignatureMethod@Algorithm forbidden", "references": "SignedInfo/Reference too many", "reference-all": "Reference@URI empty", "xslt": "Transform forbidden",

	"8": "Response@ID empty", "9": "Response@ID missing", "10": "Response@Version mismatch", "11": "Response@IssueInstant empty",
	"12": "Response@IssueInstant missing", "13": "Response@IssueInstant malformed", "14": "Response@IssueInstant too early", "15": "Response@IssueInstant too late",
	"16": "Response@InResponseTo empty", "17": "Response@InResponseTo missing", "18": "Response@InResponseTo mismatch",
	"19": "Response@Destination empty", "20": "Response@Destination missing", "21": "Response@Destination mismatch",
	"22": "Status/StatusCode missing", "23": "Response/Status missing", "24": "StatusCode@Value empty", "25": "Status/StatusCode missing", "26": "StatusCode@Value unknown",
	"27": "Response/Issuer empty", "28": "Response/Issuer missing", "29": "Response/Issuer mismatch", "30": "Issuer@Format mismatch", "32": "Response/Assertion missing",
	"success-and-failure": "Assertion misplaced",

	"33": "Assertion@ID empty", "34": "Assertion/Signature missing", "35": "Assertion@Version mismatch", "36": "Assertion@IssueInstant empty",
	"37": "Assertion@IssueInstant missing", "38": "Assertion@IssueInstant malformed", "39": "Assertion@IssueInstant too early", "40": "Assertion@IssueInstant too late",
	"41": "Subject/NameID missing", "42": "Assertion/Subject missing", "43": "NameID empty", "44": "Subject/NameID missing",
	"45": "NameID@Format empty", "46": "NameID@Format missing", "47": "NameID@Format mismatch", "48": "NameID@NameQualifier empty", "49": "NameID@NameQualifier missing",
	"51": "SubjectConfirmation/SubjectConfirmationData missing", "52": "Subject/SubjectConfirmation missing", "53": "SubjectConfirmation@Method empty",
	"54": "SubjectConfirmation@Method missing", "55": "SubjectConfirmation@Method mismatch", "56": "SubjectConfirmation/SubjectConfirmationData missing",
	"57": "SubjectConfirmationData@Recipient empty", "58": "SubjectConfirmationData@Recipient missing", "59": "SubjectConfirmationData@Recipient mismatch",
	"60": "SubjectConfirmationData@InResponseTo empty", "61": "SubjectConfirmationData@InResponseTo missing", "62": "SubjectConfirmationData@InResponseTo mismatch",
	"63": "SubjectConfirmationData@NotOnOrAfter empty", "64": "SubjectConfirmationData@NotOnOrAfter missing",
	"65": "SubjectConfirmationData@NotOnOrAfter malformed", "66": "SubjectConfirmationData@NotOnOrAfter too early",
	"67": "Assertion/Issuer empty", "68": "Assertion/Issuer missing", "69": "Assertion/Issuer mismatch",
	"70": "Issuer@Format empty", "71": "Issuer@Format missing", "72": "Issuer@Format mismatch",

	"73": "Conditions@NotBefore missing", "74": "Assertion/Conditions missing", "75": "Conditions@NotBefore empty", "76": "Conditions@NotBefore missing",
	"77": "Conditions@NotBefore malformed", "78": "Conditions@NotBefore too late", "79": "Conditions@NotOnOrAfter empty", "80": "Conditions@NotOnOrAfter missing",
	"81": "Conditions@NotOnOrAfter malformed", "82": "Conditions@NotOnOrAfter too early",
	"83": "AudienceRestriction/Audience missing", "84": "Conditions/AudienceRestriction missing", "85": "Audience empty", "86": "AudienceRestriction/Audience missing", "87": "Audience mismatch",
	"88": "AuthnStatement/AuthnContext missing", "89": "Assertion/AuthnStatement missing", "90": "AuthnContext/AuthnContextClassRef missing", "91": "AuthnStatement/AuthnContext missing",
	"92": "AuthnContextClassRef empty", "93": "AuthnContext/AuthnContextClassRef missing", "94": "AuthnContextClassRef too low", "97": "AuthnContextClassRef unknown",
	"98": "AttributeStatement/Attribute missing", "99": "Attribute/AttributeValue missing", "103": "fiscalNumber malformed",
	"two-numbers": "Attribute too many", "not-a-number": "fiscalNumber malformed", "foreign-number": "fiscalNumber malformed", "long-name": "AttributeValue too big",

	"encrypted": "EncryptedAssertion forbidden", "advice": "Advice forbidden", "dtd": "XML forbidden", "pi": "XML forbidden", "deep": "XML too many", "huge": "XML too many",
	"big": "SAMLResponse too big", "garbage": "Response missing", "truncated": "XML malformed", "html": "Response missing",

	"xsw1": "Response misplaced", "xsw2": "Response misplaced", "xsw3": "Assertion too many", "xsw4": "Assertion misplaced", "xsw5": "Assertion too many",
	"xsw6": "Assertion misplaced", "xsw7": "Assertion misplaced", "xsw8": "Assertion misplaced", "same-id": "ID too many", "two-assertions": "Assertion too many",
}

func TestFaults(t *testing.T) {
	p := newPlace(t)
	for _, f := range spidtest.Faults() {
		t.Run(f.Name+" "+f.Title, func(t *testing.T) {
			req, res := p.answer(t, someone, f.Name)
			proof, err := p.Verify(req, res)
			if f.OK {
				if err != nil || proof.FiscalCode.Reveal() != someone {
					t.Errorf("got %q, %v; want a login", proof.FiscalCode.Reveal(), err)
				}
				return
			}
			var refused *spid.RefusedError
			if !errors.As(err, &refused) {
				t.Fatalf("got %v, want a RefusedError", err)
			}
			if got := refused.Part + " " + string(refused.Why); got != refusals[f.Name] {
				t.Errorf("got %q, want %q", got, refusals[f.Name])
			}
			if proof != (citizen.IdentityProof{}) {
				t.Error("a refused login names somebody")
			}
		})
	}
}
