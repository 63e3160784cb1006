module github.com/oauth2pw/passwordflow

go 1.25.0

require (
	github.com/lestrrat-go/jwx/v2 v2.1.7
	github.com/stretchr/testify v1.12.1
	golang.org/x/crypto v0.55.0
)
