package ipp

import (
	"encoding/binary"
	"fmt"

	"github.com/OpenPrinting/goipp"
)

// What an answer may hold. The decoder calls itself for every collection in a collection and allocates for every value,
// so a hostile answer is counted before it is decoded. Real answers to what this client asks stay below a tenth of it:
// the deepest is media-col-ready with 3 levels, the longest a list of jobs.
const (
	maxAnswer     = 1 << 20 // bytes
	maxGroups     = 1024
	maxAttributes = 16384 // members of collections count
	maxTotal      = 32768 // values
	maxDepth      = 16    // collections in collections
	maxAttrName   = 255   // RFC 8011 §5.1.4: a keyword
)

// scan checks that raw is shaped like an IPP message (RFC 8010 §3.1) within the limits above: every length fits, every
// collection is closed. It allocates nothing and does not look into values.
func scan(raw []byte) error {
	if len(raw) > maxAnswer {
		return fmt.Errorf("more than %d bytes", maxAnswer)
	}
	if len(raw) < 9 {
		return fmt.Errorf("%d bytes are no message", len(raw))
	}
	var groups, attributes, values, depth int
	field := func(at int) ([]byte, int, error) { // two bytes of length, and so many bytes
		if len(raw)-at < 2 {
			return nil, 0, fmt.Errorf("cut off at byte %d", at)
		}
		n := int(binary.BigEndian.Uint16(raw[at:]))
		if at += 2; len(raw)-at < n {
			return nil, 0, fmt.Errorf("length %d at byte %d is more than there is", n, at-2)
		}
		return raw[at : at+n], at + n, nil
	}
	for at := 8; at < len(raw); {
		tag := goipp.Tag(raw[at])
		start := at
		at++
		if tag.IsDelimiter() {
			if groups++; depth > 0 || groups > maxGroups {
				return fmt.Errorf("delimiter %#x at byte %d: in a collection, or the %dth", int(tag), start, groups)
			}
			if tag == goipp.TagEnd {
				return nil
			}
			continue
		}
		name, at2, err := field(at)
		if err != nil {
			return err
		}
		if _, at, err = field(at2); err != nil {
			return err
		}
		values++
		if len(name) > 0 || tag == goipp.TagMemberName {
			attributes++
		}
		switch tag {
		case goipp.TagBeginCollection:
			depth++
		case goipp.TagEndCollection:
			depth--
		}
		switch {
		case groups == 0:
			return fmt.Errorf("attribute outside of a group at byte %d", start)
		case depth < 0 || tag == goipp.TagMemberName && depth == 0:
			return fmt.Errorf("tag %#x outside of a collection at byte %d", int(tag), start)
		case depth > maxDepth:
			return fmt.Errorf("more than %d collections in each other", maxDepth)
		case attributes > maxAttributes || values > maxTotal || len(name) > maxAttrName:
			return fmt.Errorf("too many or too long attributes (%d with %d values by byte %d)", attributes, values, start)
		}
	}
	return fmt.Errorf("no end of attributes")
}
