// Package openapi describes the login of an app in the app's OpenAPI document: the security
// scheme of the token endpoint, and the security of every operation behind the middleware of
// package oauth2pw. Swagger UI shows an Authorize button then, and logs in with a username
// and a password.
//
//	doc, err := openapi.Parse(file, auth.PasswordBearer("token"))
//	if err != nil {
//		return err
//	}
//	if err := doc.Routes(mux); err != nil {
//		return err
//	}
//	handler, err := doc.Handler()
//	if err != nil {
//		return err
//	}
//	mux.Handle("GET /openapi.json", handler)
//
// [Document.Routes] asks the ServeMux for the handler of each operation, and reads the scopes
// from the middleware around the handler: a handler and its description have one declaration.
// For another router [Document.Operation] takes a handler and its middleware, and
// [Document.SetScopes] takes scopes.
//
// An operation that needs no token has "security": [] in the document. All other operations
// need visible middleware, or a call of SetScopes: otherwise the document is an error,
// because it would describe a protected handler as open.
//
// The document is JSON of OpenAPI 3.0 or 3.1. Members that this package does not set stay as
// they are, in their order. The app writes the operations, because a handler has no
// description of its parameters and answers.
package openapi
