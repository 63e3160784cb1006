//go:build linux

package integration

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// startLimit is the time in which a server must answer, and a fleet must serve again.
const startLimit = time.Minute

// dbServer is a database server of a test's own, on a free port of loopback, which the test may
// stop and kill.
type dbServer struct {
	driver  string
	dialect sqlstore.Dialect
	dsn     string
	data    string         // the folder of the database
	port    int            // on loopback
	shut    syscall.Signal // a shutdown that waits for no client
	program string
	args    []string
	owner   *syscall.Credential // nil: the user of the test
	cmd     *exec.Cmd
	exited  chan struct{}
}

// command returns a command of the owner of the server.
func (s *dbServer) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = s.data // the folder of the tests may be closed to the owner
	// The server ends with the test binary, even after a panic.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner, Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (s *dbServer) run(t *testing.T, program string, args ...string) {
	t.Helper()
	out, err := s.command(program, args...).CombinedOutput()
	require.NoError(t, err, "%s: %s", program, out)
}

// begin starts the process.
func (s *dbServer) begin(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(s.data+".log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close()
	s.cmd, s.exited = s.command(s.program, s.args...), make(chan struct{})
	s.cmd.Stdout, s.cmd.Stderr = log, log
	require.NoError(t, s.cmd.Start())
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(s.cmd, s.exited)
}

// start starts the server, and waits until it answers. A server that has been killed may leave
// children for a moment, beside which no other server starts.
func (s *dbServer) start(t *testing.T) {
	t.Helper()
	s.begin(t)
	db, err := sql.Open(s.driver, s.dsn)
	require.NoError(t, err)
	defer db.Close()
	for end := time.Now().Add(startLimit); ; time.Sleep(20 * time.Millisecond) {
		err := db.PingContext(t.Context())
		if err == nil {
			return
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(s.data + ".log")
			require.NoError(t, err, "%s", log)
		}
		select {
		case <-s.exited:
			s.begin(t)
		default:
		}
	}
}

// signal ends the process, and waits for its end.
func (s *dbServer) signal(t *testing.T, signal syscall.Signal) {
	_ = s.cmd.Process.Signal(signal)
	select {
	case <-s.exited:
	case <-time.After(startLimit):
		t.Error("the server does not stop")
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
}

func (s *dbServer) stop(t *testing.T) { s.signal(t, s.shut) }
func (s *dbServer) kill(t *testing.T) { s.signal(t, syscall.SIGKILL) }

// open opens the database for the test itself.
func (s *dbServer) open(t *testing.T) *sql.DB { return opened(t, s.driver, s.dsn) }

// lacking skips a test that needs a program, or fails it where the servers are required.
func lacking(t *testing.T, programs, install string) {
	t.Helper()
	if os.Getenv("PASSWORDFLOW_TEST_REQUIRE_SERVICES") != "" {
		t.Fatalf("%s not found: install %s", programs, install)
	}
	t.Skipf("%s not found: install %s", programs, install)
}

// freePort returns a port below those that the system gives to clients: no connection takes
// the port while its server is down.
func freePort(t *testing.T) int {
	t.Helper()
	if testing.Short() {
		t.Skip("a test with servers of its own: not with -short")
	}
	for range 100 {
		port := 20000 + rand.IntN(12000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			require.NoError(t, l.Close())
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// postgreSQLProgram returns the path of a program of PostgreSQL's newest version.
func postgreSQLProgram(t *testing.T, name string) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	require.NoError(t, err)
	if len(found) > 0 {
		return slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	}
	path, err := exec.LookPath(name)
	if err != nil {
		lacking(t, name, "postgresql")
	}
	return path
}

// version returns the version in the path of a program of Debian's PostgreSQL.
func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

// notRoot returns a user for a program that does not run as root, and gives him files in the
// folder of a test. Nil: the test does not run as root.
func notRoot(t *testing.T, name, dir string, files ...string) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	owner, err := user.Lookup(name)
	if err != nil {
		owner, err = user.Lookup("nobody")
	}
	require.NoError(t, err)
	uid, err := strconv.Atoi(owner.Uid)
	require.NoError(t, err)
	gid, err := strconv.Atoi(owner.Gid)
	require.NoError(t, err)
	for _, file := range files {
		require.NoError(t, os.Chown(file, uid, gid))
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		require.NoError(t, os.Chmod(d, 0o711)) // the user passes
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// newPostgreSQL returns a server without a database folder. PostgreSQL does not run as root.
func newPostgreSQL(t *testing.T) *dbServer {
	t.Helper()
	s := &dbServer{driver: "pgx", dialect: sqlstore.PostgreSQL, shut: syscall.SIGINT, program: postgreSQLProgram(t, "postgres"), port: freePort(t)}
	dir := t.TempDir()
	s.data = filepath.Join(dir, "data")
	require.NoError(t, os.Mkdir(s.data, 0o700))
	s.owner = notRoot(t, "postgres", dir, s.data)
	s.dsn = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.port)
	s.args = []string{
		"-D", s.data, "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "fsync=off", // only the processes are killed, and not the machine
		"-c", "max_connections=150", "-c", "shared_buffers=32MB", "-c", "wal_retrieve_retry_interval=100ms",
	}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.stop(t)
		}
	})
	return s
}

// startPostgreSQL starts a new server.
func startPostgreSQL(t *testing.T) *dbServer {
	t.Helper()
	s := newPostgreSQL(t)
	s.run(t, postgreSQLProgram(t, "initdb"), "-D", s.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	s.start(t)
	return s
}

// startMariaDB starts a new server.
func startMariaDB(t *testing.T) *dbServer {
	t.Helper()
	s := &dbServer{driver: "mysql", dialect: sqlstore.MySQL, shut: syscall.SIGTERM, port: freePort(t)}
	find := func(names ...string) string {
		for _, name := range names {
			for _, path := range []string{name, "/usr/sbin/" + name} {
				if found, err := exec.LookPath(path); err == nil {
					return found
				}
			}
		}
		lacking(t, names[0], "mariadb-server")
		return ""
	}
	s.program = find("mariadbd", "mysqld")
	install := find("mariadb-install-db", "mysql_install_db")
	s.data = filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Mkdir(s.data, 0o700))
	own := []string{"--no-defaults", "--datadir=" + s.data}
	if os.Geteuid() == 0 {
		own = append(own, "--user=root")
	}
	s.run(t, install, append(own, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", "--innodb-fast-shutdown=0")...)
	s.args = append(own,
		"--port="+strconv.Itoa(s.port), "--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin",
		"--socket="+filepath.Join(s.data, "s"), "--pid-file="+filepath.Join(s.data, "pid"),
		"--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=2", // only the processes are killed, and not the machine
	)
	s.dsn = fmt.Sprintf("root@tcp(127.0.0.1:%d)/?clientFoundRows=true&innodb_lock_wait_timeout=2&lock_wait_timeout=2&parseTime=true", s.port)
	s.start(t)
	t.Cleanup(func() { s.stop(t) })
	db := s.open(t)
	run(t, db, "CREATE DATABASE fleet CHARACTER SET utf8mb4")
	s.dsn = fmt.Sprintf("root@tcp(127.0.0.1:%d)/fleet?clientFoundRows=true&innodb_lock_wait_timeout=2&lock_wait_timeout=2&parseTime=true&interpolateParams=true", s.port)
	return s
}
