package tokens

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

func parsePEM(data []byte) ([]*keyMaterial, error) {
	var keys []*keyMaterial
	for len(data) > 0 {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil, errors.New("the PEM is malformed")
		}
		data = bytes.TrimSpace(data)
		if block.Type == "EC PARAMETERS" { // openssl writes this block before an EC key
			continue
		}
		raw, err := parseDER(block)
		if err != nil {
			return nil, err
		}
		m, err := materialOf(raw, "", "")
		if err != nil {
			return nil, err
		}
		if keys = append(keys, m); len(keys) > maxKeys {
			return nil, fmt.Errorf("over %d keys", maxKeys)
		}
	}
	if keys == nil {
		return nil, errors.New("the PEM holds no key")
	}
	return keys, nil
}

func parseDER(block *pem.Block) (raw any, err error) {
	switch {
	case block.Headers["DEK-Info"] != "" || block.Type == "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the PEM is encrypted; decrypt it first (openssl pkey -in FILE)")
	case block.Type == "PRIVATE KEY":
		raw, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case block.Type == "RSA PRIVATE KEY":
		raw, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		raw, err = x509.ParseECPrivateKey(block.Bytes)
	case block.Type == "PUBLIC KEY":
		raw, err = x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		raw, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, fmt.Errorf("the PEM holds a %q, and no key", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("the PEM block %q holds no key of its kind, or a weak one", block.Type) // the cause may quote the key
	}
	return raw, nil
}
