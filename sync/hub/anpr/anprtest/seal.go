package anprtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"time"

	"github.com/smallstep/pkcs7"
)

const sealName = "Sigillo di prova FACSIMILE"

// seal is the test seal: a key and the certificate it signed for itself.
type seal struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func newSeal(now time.Time) (seal, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return seal{}, fmt.Errorf("make the seal: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: sealName, Organization: []string{"FACSIMILE"}, Country: []string{"IT"}},
		NotBefore:    now.Add(-24 * time.Hour), NotAfter: now.AddDate(3, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageCertSign,
		IsCA:     true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return seal{}, fmt.Errorf("make the seal: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return seal{}, fmt.Errorf("make the seal: %w", err)
	}
	return seal{key, cert}, nil
}

// contentsSize is the room for the signature, in bytes. A CMS with one P-256 certificate takes about 1.2 KB.
const contentsSize = 4096

var (
	rootPattern = regexp.MustCompile(`/Root (\d+) 0 R`)
	sizePattern = regexp.MustCompile(`/Size (\d+)`)
	infoPattern = regexp.MustCompile(`/Info (\d+ 0 R)`)
	xrefPattern = regexp.MustCompile(`startxref\s+(\d+)\s+%%EOF\s*$`)
	pagePattern = regexp.MustCompile(`\n(\d+) 0 obj\n<<\s*/Type /Page\s`)
)

// sealPDF adds a PAdES-style signature (ETSI EN 319 142-1: SubFilter ETSI.CAdES.detached) to a PDF that fpdf made, as an
// incremental update: what was there stays, byte for byte, and the signature covers all of the file but itself.
func (s seal) sealPDF(pdf []byte, at time.Time) ([]byte, error) {
	root, size := number(rootPattern, pdf), number(sizePattern, pdf)
	prev, page := number(xrefPattern, pdf), number(pagePattern, pdf)
	info := infoPattern.FindSubmatch(pdf)
	if root == 0 || size == 0 || prev == 0 || page == 0 || info == nil {
		return nil, errors.New("seal: not the PDF that was drawn")
	}
	catalog, err1 := dictionary(pdf, root)
	pageDict, err2 := dictionary(pdf, page)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	sig, widget := size, size+1

	var b bytes.Buffer
	b.Write(pdf)
	offsets := map[int]int{}
	object := func(n int, body string) {
		offsets[n] = b.Len()
		fmt.Fprintf(&b, "%d 0 obj\n<<%s>>\nendobj\n", n, body)
	}
	object(root, catalog+fmt.Sprintf("\n/AcroForm << /Fields [%d 0 R] /SigFlags 3 >>\n", widget))
	object(page, pageDict+fmt.Sprintf("\n/Annots [%d 0 R]\n", widget))
	object(widget, fmt.Sprintf(" /Type /Annot /Subtype /Widget /FT /Sig /T (Sigillo) /V %d 0 R /P %d 0 R /F 132 /Rect [0 0 0 0] ", sig, page))
	const rangeRoom = "0000000000 0000000000 0000000000"
	object(sig, fmt.Sprintf(" /Type /Sig /Filter /Adobe.PPKLite /SubFilter /ETSI.CAdES.detached /Name (%s) /M (D:%sZ)\n/ByteRange [0 %s]\n/Contents <%0*d> ",
		sealName, at.UTC().Format("20060102150405"), rangeRoom, 2*contentsSize, 0))
	xref := b.Len()
	b.WriteString("xref\n")
	for _, n := range []int{root, page, sig, widget} {
		fmt.Fprintf(&b, "%d 1\n%010d 00000 n \n", n, offsets[n])
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root %d 0 R /Info %s /Prev %d >>\nstartxref\n%d\n%%%%EOF\n", size+2, root, info[1], prev, xref)

	out := b.Bytes()
	begin := offsets[sig] + bytes.Index(out[offsets[sig]:], []byte("/Contents <")) + len("/Contents ")
	end := begin + 2*contentsSize + 2
	at0 := offsets[sig] + bytes.Index(out[offsets[sig]:], []byte(rangeRoom))
	copy(out[at0:], fmt.Sprintf("%010d %010d %010d", begin, end, len(out)-end))

	cms, err := s.sign(append(bytes.Clone(out[:begin]), out[end:]...))
	if err != nil {
		return nil, err
	}
	if len(cms) > contentsSize {
		return nil, fmt.Errorf("seal: the signature has %d bytes", len(cms))
	}
	hex.Encode(out[begin+1:], cms)
	return out, nil
}

// signingCertificateV2 is RFC 5035 §4: it binds the signature to the certificate, as CAdES wants it.
type signingCertificateV2 struct {
	Certs []struct{ Hash []byte }
}

// sign makes a detached CMS (RFC 5652) over content.
func (s seal) sign(content []byte) ([]byte, error) {
	sd, err := pkcs7.NewSignedData(content)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	sum := sha256.Sum256(s.cert.Raw)
	err = sd.AddSigner(s.cert, s.key, pkcs7.SignerInfoConfig{ExtraSignedAttributes: []pkcs7.Attribute{{
		Type:  asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47},
		Value: signingCertificateV2{Certs: []struct{ Hash []byte }{{sum[:]}}},
	}}})
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	sd.Detach()
	cms, err := sd.Finish()
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return cms, nil
}

// number is what re's group says in pdf, 0 when it does not match.
func number(re *regexp.Regexp, pdf []byte) int {
	m := re.FindSubmatch(pdf)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return 0
	}
	return n
}

// dictionary returns what stands between << and the last >> of object n.
func dictionary(pdf []byte, n int) (string, error) {
	head := fmt.Appendf(nil, "\n%d 0 obj\n<<", n)
	begin := bytes.Index(pdf, head)
	if begin < 0 {
		return "", fmt.Errorf("seal: no object %d", n)
	}
	body := pdf[begin+len(head):]
	end := bytes.Index(body, []byte("endobj"))
	if end < 0 {
		return "", fmt.Errorf("seal: object %d has no end", n)
	}
	body = body[:end]
	last := bytes.LastIndex(body, []byte(">>"))
	if last < 0 {
		return "", fmt.Errorf("seal: object %d is no dictionary", n)
	}
	return string(body[:last]), nil
}
