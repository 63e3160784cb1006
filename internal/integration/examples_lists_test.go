package integration

// exampleLists has the functions and methods without an Example of their own, and the Examples
// without output.
type exampleLists struct {
	elsewhere  map[string]string // the Example that calls the function: of the same package, or of this package, which has a driver
	exceptions map[string]string // the reason why no Example calls the function
	noOutput   map[string]string // the reason why the go command does not run the Example
}

const (
	onlyLibrary = "only the library calls the method"
	checkedPlug = "only oauth2pw.New and the middleware call the method"
	aGetter     = "returns a setting of the Config"
	needsTest   = "an Example has no *testing.T; TestExamples of the package runs the code of the Examples"
	needsDriver = "the module has no driver; the Examples of internal/integration have one"
)

var examples = exampleLists{
	elsewhere: map[string]string{
		"oauth2pw.Auth.NewTicket":         "ExampleAuth_RedeemTicket",
		"oauth2pw.PasswordBearer.Require": "ExamplePasswordBearer",
		"oauth2pw.Principal.HasScope":     "ExampleWithPrincipal",

		"oauth2pw/openapi.Document.Handler":     "Example",
		"oauth2pw/openapi.Document.MarshalJSON": "Example",
		"oauth2pw/openapi.Document.Routes":      "Example",
		"oauth2pw/openapi.Parse":                "Example",

		"tokens.Key.Algorithm":   "ExampleNewKey",
		"tokens.Key.ID":          "ExampleNewKey",
		"tokens.Remote.Issuer":   "ExampleSameScopes",
		"tokens.Remote.Verify":   "ExampleNewRemote",
		"tokens.Ring.Issue":      "ExampleOpen",
		"tokens.Ring.Issuer":     "ExampleByIssuer",
		"tokens.Ring.Verify":     "ExampleOpen",
		"tokens.Verifier.Verify": "ExampleNewVerifier",

		"store.Clients.Add":        "ExampleClients_Update",
		"store.Clients.ClientByID": "ExampleNewClients",
		"store.Clients.Delete":     "ExampleClients_Update",
		"store.Users.UserByID":     "ExampleUsers_Update",
		"store.Users.UserByName":   "ExampleNewUsers",

		"store/sqlstore.Clients.Add":              "Example_sqlstoreClientsUpdate",
		"store/sqlstore.Clients.ClientByID":       "Example_sqlstoreClientsUpdate",
		"store/sqlstore.Clients.Delete":           "Example_sqlstoreClientsUpdate",
		"store/sqlstore.Clients.Update":           "Example_sqlstoreClientsUpdate",
		"store/sqlstore.New":                      "Example_sqlstoreNew",
		"store/sqlstore.NewUsers":                 "Example_sqlstoreNewUsers",
		"store/sqlstore.Store.CheckSchema":        "Example_sqlstoreSchema",
		"store/sqlstore.Store.Migrate":            "Example_sqlstoreNew",
		"store/sqlstore.Store.Schema":             "Example_sqlstoreSchema",
		"store/sqlstore.Users.Add":                "Example_sqlstoreUsersUpdate",
		"store/sqlstore.Users.Delete":             "Example_sqlstoreUsersUpdate",
		"store/sqlstore.Users.Inspect":            "Example_sqlstoreInspect",
		"store/sqlstore.Users.Update":             "Example_sqlstoreUsersUpdate",
		"store/sqlstore.Users.UpdatePasswordHash": "Example_sqlstoreUsersUpdate",
		"store/sqlstore.Users.UserByID":           "Example_sqlstoreUsersUpdate",
		"store/sqlstore.Users.UserByName":         "Example_sqlstoreNewUsers",
	},
	exceptions: map[string]string{
		"store/storetest.Throttle":    "no package of the module exports a Throttle; TestThrottle of redisstore is the call",
		"oauth2pw.Error.Error":        "package fmt calls the method",
		"oauth2pw.Error.Unwrap":       "package errors calls the method",
		"oauth2pw.Secret.Format":      "package fmt calls the method; ExampleSecret has the result",
		"oauth2pw.Secret.MarshalText": "package encoding/json calls the method; ExampleSecret has the result",

		"hasher.Calibrate":    "the result depends on the machine; ExampleCalibrate has no output",
		"hasher.Hasher.Check": checkedPlug,

		"tokens.Remote.Check":    checkedPlug,
		"tokens.Ring.Check":      checkedPlug,
		"tokens.Verifier.Check":  checkedPlug,
		"tokens.Verifier.Issuer": aGetter,

		"store.Sessions.Advance": onlyLibrary,
		"store.Sessions.Create":  onlyLibrary,
		"store.Sessions.End":     onlyLibrary,
		"store.Sessions.Get":     onlyLibrary,
		"store.Sessions.List":    onlyLibrary,
		"store.Sessions.Sweep":   onlyLibrary,

		"store/sqlstore.Clients.Check":    checkedPlug,
		"store/sqlstore.Sessions.Advance": onlyLibrary,
		"store/sqlstore.Sessions.Check":   checkedPlug,
		"store/sqlstore.Sessions.Create":  onlyLibrary,
		"store/sqlstore.Sessions.End":     onlyLibrary,
		"store/sqlstore.Sessions.Get":     onlyLibrary,
		"store/sqlstore.Sessions.List":    onlyLibrary,
		"store/sqlstore.Sessions.Sweep":   onlyLibrary,
		"store/sqlstore.Users.Check":      checkedPlug,

		"store/storetest.Clients":   needsTest,
		"store/storetest.Refreshes": needsTest,
		"store/storetest.Sessions":  needsTest,
		"store/storetest.Users":     needsTest,
	},
	noOutput: map[string]string{
		"hasher.ExampleCalibrate": "the result depends on the machine",

		"store/sqlstore.ExampleNew":      needsDriver,
		"store/sqlstore.ExampleNewUsers": needsDriver,

		"store/storetest.ExampleClients":   needsTest,
		"store/storetest.ExampleRefreshes": needsTest,
		"store/storetest.ExampleSessions":  needsTest,
		"store/storetest.ExampleUsers":     needsTest,
	},
}
