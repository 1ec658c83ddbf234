package dnssd

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/miekg/dns"
)

const (
	maxInstance = 63   // bytes of a label, RFC 1035 §2.3.4
	maxTXT      = 8192 // bytes of one service's TXT record: far above any printer, far below what hurts
	maxTXTPairs = 128
)

// unescape turns the presentation form of a label or a TXT string (RFC 1035 §5.1: "\DDD" and "\x") into its bytes.
// A lone backslash at the end, which package dns never writes, means nothing.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\':
			b.WriteByte(s[i])
		case i+1 == len(s):
		case i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]):
			n := int(s[i+1]-'0')*100 + int(s[i+2]-'0')*10 + int(s[i+3]-'0')
			if n <= 255 {
				b.WriteByte(byte(n))
			}
			i += 3
		default:
			i++
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// clean makes a stranger's text fit to be shown: valid UTF-8 without control characters and without the characters
// that turn the direction of writing, at most limit bytes.
func clean(s string, limit int) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "") {
		if unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// parseTXT reads the strings of a TXT record (RFC 6763 §6.3-6.5): the first of two equal keys counts, strings without
// a key are skipped, and so is what is beyond the limits.
func parseTXT(strs []string) map[string]string {
	txt := make(map[string]string, min(len(strs), maxTXTPairs))
	size := 0
	for _, s := range strs {
		size += len(s)
		if size > maxTXT || len(txt) == maxTXTPairs {
			break
		}
		key, value, _ := strings.Cut(unescape(s), "=")
		key = strings.ToLower(clean(key, 255))
		if key == "" {
			continue
		}
		if _, twice := txt[key]; !twice {
			txt[key] = clean(value, 255)
		}
	}
	return txt
}

// escapeLabel writes a label in the presentation form in which zeroconf compares it with incoming questions.
func escapeLabel(label string) (string, error) {
	if label == "" || len(label) > maxInstance {
		return "", fmt.Errorf("service name %q: %d bytes, want 1 to %d", label, len(label), maxInstance)
	}
	wire := append([]byte{byte(len(label))}, label...)
	name, _, err := dns.UnpackDomainName(append(wire, 0), 0)
	if err != nil {
		return "", fmt.Errorf("service name %q: %w", label, err)
	}
	return name[:len(name)-1], nil
}

// formatTXT writes the strings of a TXT record, txtvers first as RFC 6763 §6.7 asks.
func formatTXT(txt map[string]string, sorted []string) ([]string, error) {
	var strs []string
	for _, key := range sorted {
		s := key + "=" + txt[key]
		if len(s) > 255 {
			return nil, fmt.Errorf("TXT %s: %d bytes, want at most 255", key, len(s))
		}
		strs = append(strs, strings.ReplaceAll(s, `\`, `\\`))
	}
	return strs, nil
}
