package server

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sportello.example/provisioning/durable"
)

// keys are the hub's own, made at its first start and kept in files of 64 hexadecimal digits.
type keys struct {
	master []byte             // the login keys of all boxes are derived from it
	token  ed25519.PrivateKey // signs identity tokens
	seal   *keyring           // opens what boxes seal
}

func loadKeys(dir string) (k keys, err error) {
	if err := durable.Dir(dir); err != nil {
		return keys{}, fmt.Errorf("keys: %w", err)
	}
	if k.master, err = secret(filepath.Join(dir, "master.key")); err != nil {
		return keys{}, err
	}
	seed, err := secret(filepath.Join(dir, "token.key"))
	if err != nil {
		return keys{}, err
	}
	k.token = ed25519.NewKeyFromSeed(seed)
	k.seal, err = openKeyring(dir, time.Now)
	return k, err
}

// secret reads 32 bytes from a file, which it makes with random ones when there is none.
func secret(path string) ([]byte, error) {
	b, err := readSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	b = make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	switch err := durable.Create(path, []byte(hex.EncodeToString(b)+"\n")); {
	case err == nil:
		return b, nil
	case errors.Is(err, fs.ErrExist): // another process was faster
		return readSecret(path)
	default:
		return nil, fmt.Errorf("keys: %w", err)
	}
}

// readSecret reads what secret has made.
func readSecret(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(b) != 32 {
		return nil, fmt.Errorf("keys: %s does not hold 64 hexadecimal digits", path) // the cause might quote them
	}
	return b, nil
}
