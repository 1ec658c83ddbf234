package anpr

import "errors"

// What a caller must tell apart when the registry does not give what was asked.
var (
	ErrNotRegistered  = errors.New("citizen not in the registry")
	ErrNotCertifiable = errors.New("registry may not certify this person")
	ErrDown           = errors.New("registry does not answer")
)
