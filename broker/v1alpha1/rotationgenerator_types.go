package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Generator makes one value, or a key and what belongs to it. Give exactly one of
// its fields.
//
// +kubebuilder:validation:XValidation:rule="[has(self.password), has(self.hex), has(self.base64), has(self.uuid), has(self.rsa), has(self.ecdsa), has(self.ed25519), has(self.ssh), has(self.x509)].filter(given, given).size() == 1",message="give exactly one of password, hex, base64, uuid, rsa, ecdsa, ed25519, ssh and x509"
type Generator struct {
	// Password of single characters.
	//
	// +optional
	Password *PasswordGenerator `json:"password,omitempty"`

	// Hex are random bytes in hexadecimal digits.
	//
	// +optional
	Hex *BytesGenerator `json:"hex,omitempty"`

	// Base64 are random bytes in base64, of the standard alphabet with padding.
	//
	// +optional
	Base64 *BytesGenerator `json:"base64,omitempty"`

	// UUID is a random UUID: uuid: {}.
	//
	// +optional
	UUID *UUIDGenerator `json:"uuid,omitempty"`

	// RSA is a private key, PKCS#8 in PEM.
	//
	// +optional
	RSA *RSAGenerator `json:"rsa,omitempty"`

	// ECDSA is a private key, PKCS#8 in PEM.
	//
	// +optional
	ECDSA *ECDSAGenerator `json:"ecdsa,omitempty"`

	// Ed25519 is a private key, PKCS#8 in PEM: ed25519: {}.
	//
	// +optional
	Ed25519 *Ed25519Generator `json:"ed25519,omitempty"`

	// SSH is a private key as OpenSSH has it: ssh: {}.
	//
	// +optional
	SSH *SSHGenerator `json:"ssh,omitempty"`

	// X509 is the private key, PKCS#8 in PEM, of a certificate that it signs
	// itself: for those who pin the certificate, as there is no authority behind it.
	//
	// +optional
	X509 *X509Generator `json:"x509,omitempty"`
}

// PasswordGenerator makes a text of letters and digits, with at least one of each
// class that it may have. One that could be guessed, with less than 64 bits, is
// refused.
type PasswordGenerator struct {
	// Length in characters. Default: 32, or what the policy says.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=256
	// +optional
	Length int32 `json:"length,omitempty"`

	// Symbols that it may have beside letters and digits. Default: none, since
	// some systems break on some of them.
	//
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Symbols string `json:"symbols,omitempty"`

	// Exclude are characters that it must not have, such as those that look
	// alike: 0O1lI.
	//
	// +kubebuilder:validation:MaxLength=94
	// +optional
	Exclude string `json:"exclude,omitempty"`

	// Without leaves classes out.
	//
	// +kubebuilder:validation:MaxItems=3
	// +kubebuilder:validation:items:Enum=lower;upper;digits
	// +listType=set
	// +optional
	Without []string `json:"without,omitempty"`

	// Minimum of each class: lower, upper, digits, symbols. Default: 1 of each.
	//
	// +kubebuilder:validation:MaxProperties=4
	// +kubebuilder:validation:XValidation:rule="self.all(class, class in ['lower', 'upper', 'digits', 'symbols'])",message="the classes are lower, upper, digits and symbols"
	// +optional
	Minimum map[string]int32 `json:"minimum,omitempty"`

	// Policy in the words of Vault's password policies, in place of symbols,
	// without and minimum: length, and rules "charset" with charset and min-chars.
	//
	// +kubebuilder:validation:MaxLength=4096
	// +optional
	Policy string `json:"policy,omitempty"`
}

// BytesGenerator makes random bytes.
type BytesGenerator struct {
	// Length in bytes. Default: 32.
	//
	// +kubebuilder:validation:Minimum=8
	// +kubebuilder:validation:Maximum=1024
	// +optional
	Length int32 `json:"length,omitempty"`
}

// UUIDGenerator makes UUIDs of version 4 (RFC 9562).
type UUIDGenerator struct{}

// RSAGenerator makes RSA keys.
type RSAGenerator struct {
	// Bits of the key. Default: 3072.
	//
	// +kubebuilder:validation:Enum=2048;3072;4096
	// +optional
	Bits int32 `json:"bits,omitempty"`

	// PublicKey is the key of the document that gets the public key, PKIX in PEM.
	// Default: it is kept nowhere.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	PublicKey string `json:"publicKey,omitempty"`
}

// ECDSAGenerator makes keys on the curves of NIST.
type ECDSAGenerator struct {
	// Curve of the key. Default: P-256.
	//
	// +kubebuilder:validation:Enum=P-256;P-384;P-521
	// +optional
	Curve string `json:"curve,omitempty"`

	// PublicKey is the key of the document that gets the public key, PKIX in PEM.
	// Default: it is kept nowhere.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	PublicKey string `json:"publicKey,omitempty"`
}

// Ed25519Generator makes Ed25519 keys (RFC 8032).
type Ed25519Generator struct {
	// PublicKey is the key of the document that gets the public key, PKIX in PEM.
	// Default: it is kept nowhere.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	PublicKey string `json:"publicKey,omitempty"`
}

// KeyType is an algorithm of keys.
//
// +kubebuilder:validation:Enum=ed25519;ecdsa;rsa
type KeyType string

// SSHGenerator makes keys for SSH.
//
// +kubebuilder:validation:XValidation:rule="!has(self.bits) || (has(self.type) && self.type == 'rsa')",message="bits is for type rsa: leave it out"
type SSHGenerator struct {
	// Type of the key. Default: ed25519; ecdsa is on P-256.
	//
	// +optional
	Type KeyType `json:"type,omitempty"`

	// Bits of a key of type rsa. Default: 3072.
	//
	// +kubebuilder:validation:Enum=2048;3072;4096
	// +optional
	Bits int32 `json:"bits,omitempty"`

	// Comment on the key, in printable ASCII. Default: none.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Comment string `json:"comment,omitempty"`

	// PublicKey is the key of the document that gets the line for authorized_keys.
	// Default: it is kept nowhere.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	PublicKey string `json:"publicKey,omitempty"`
}

// X509Generator makes keys with certificates, for servers and clients, that each
// signs itself.
//
// +kubebuilder:validation:XValidation:rule="(has(self.dnsNames) && self.dnsNames.size() > 0) || (has(self.ipAddresses) && self.ipAddresses.size() > 0)",message="give a name in dnsNames, or an address in ipAddresses; clients look at those alone"
type X509Generator struct {
	// Certificate is the key of the document that gets the certificate, in PEM.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Certificate string `json:"certificate"`

	// CommonName of the subject, in printable ASCII. Default: the first name.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	CommonName string `json:"commonName,omitempty"`

	// DNSNames that the certificate is for, in lower case: db.pay.svc, *.pay.svc.
	//
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=atomic
	// +optional
	DNSNames []string `json:"dnsNames,omitempty"`

	// IPAddresses that the certificate is for: 10.0.0.1, fd00::1.
	//
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	// +listType=atomic
	// +optional
	IPAddresses []string `json:"ipAddresses,omitempty"`

	// Validity of the certificate, from 1h to 87600h. It has to be longer than any
	// time between two runs, or the certificate would expire before the next one
	// is made; twice as long leaves time for a run that fails. Default: 2160h.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h') && duration(self) <= duration('87600h')",message="want from 1h to 87600h"
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Validity *metav1.Duration `json:"validity,omitempty"`

	// KeyType of the key. Default: ecdsa, on P-256; rsa has 3072 bits.
	//
	// +optional
	KeyType KeyType `json:"keyType,omitempty"`
}
