// Account is a net/http app with everything around a password: sign-up, verified addresses,
// forgotten passwords, a second factor, a password proved again before something dangerous,
// devices and "remember me". Copy from it.
//
//	go run ./examples/account
//
// Read the files in this order. Each of them is short, and says its own order at the top:
//
//   - server.go: the program, from the flags to the last request
//   - app.go: the Config of the library, and the routes
//   - database.go: the table of users
//   - signup.go, verify.go: a new account, and its address
//   - login.go, totp.go: the checks after the password, and the second factor
//   - reset.go, email.go: a forgotten password, another address
//   - account.go, devices.go: the account and its sessions
//   - mail.go, limit.go, json.go, flags.go: the tools; package program has those that the
//     quickstart needs, too: the flags, the files, the port
//
// The program sends no mail: each mail is a line of JSON on stdout.
package main

import "github.com/oauth2pw/passwordflow/examples/internal/program"

func main() { program.Main("account", parseFlags, serve) }
