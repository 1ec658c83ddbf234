package ipp_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// certificate makes a key and a certificate, and says the key's fingerprint. It has been out of date for years.
func certificate(t *testing.T, sort string) (tls.Certificate, string) {
	t.Helper()
	var private crypto.Signer
	var err error
	if sort == "RSA" {
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"another.name"},
		NotBefore: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2002, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(spki)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, hex.EncodeToString(sum[:])
}

// serve calls f for every connection until the test ends.
func serve(t *testing.T, f func(net.Conn)) (hostPort string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			running.Go(func() {
				defer func() { _ = conn.Close() }()
				f(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return l.Addr().String()
}

// reply is the beginning of an answer to the request in body, without the end of its attributes.
func reply(request []byte, status uint16) []byte {
	b := append([]byte{2, 0, 0, 0}, request[4:8]...)
	binary.BigEndian.PutUint16(b[2:], status)
	b = append(b, 1)
	b = attribute(b, 0x47, "attributes-charset", "utf-8")
	return attribute(b, 0x48, "attributes-natural-language", "en")
}

func attribute(b []byte, tag byte, name, value string) []byte {
	b = binary.BigEndian.AppendUint16(append(b, tag), uint16(len(name)))
	b = binary.BigEndian.AppendUint16(append(b, name...), uint16(len(value)))
	return append(b, value...)
}

// nested is an answer whose collections are n deep, closed or not.
func nested(head []byte, n int, closed bool) []byte {
	b := attribute(append(head, 4), 0x34, "x", "")
	b = append(b, bytes.Repeat([]byte("\x4a\x00\x00\x00\x01b\x34\x00\x00\x00\x00"), n-1)...)
	if closed {
		b = append(b, bytes.Repeat([]byte("\x37\x00\x00\x00\x00"), n)...)
	}
	return append(b, 3)
}

// answers writes an IPP answer over HTTP.
func answers(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", "application/ipp")
	_, _ = w.Write(b)
}

// ippURI is the ipp or ipps URI of a web server.
func ippURI(web string) string { return strings.Replace(web, "http", "ipp", 1) + "/ipp/print" }
