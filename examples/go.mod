module github.com/oauth2pw/passwordflow/examples

go 1.25.0

require (
	github.com/oauth2pw/passwordflow v0.0.0
	github.com/stretchr/testify v1.12.1
	modernc.org/sqlite v1.58.0
)

replace github.com/oauth2pw/passwordflow => ../
