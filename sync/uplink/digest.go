package uplink

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// digestMatches reports whether a Content-Digest field (RFC 9530 §2) holds the SHA-256 of body. The field is a
// dictionary of byte sequences (RFC 8941 §3.2), "sha-256=:base64:", perhaps beside digests of other algorithms.
func digestMatches(field string, body []byte) bool {
	for member := range strings.SplitSeq(field, ",") {
		value, ok := strings.CutPrefix(strings.TrimSpace(member), "sha-256=:")
		if !ok {
			continue
		}
		value, ok = strings.CutSuffix(value, ":")
		if !ok {
			return false
		}
		sum, err := base64.StdEncoding.DecodeString(value)
		want := sha256.Sum256(body)
		return err == nil && string(sum) == string(want[:])
	}
	return false
}
