package integration

import (
	"database/sql"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// cutter is a proxy before a server. It cuts its connections when the test says so: before the
// request reaches the server, or before the answer reaches the client.
type cutter struct {
	net.Listener
	mu       sync.Mutex
	requests bool // the next request is cut
	answers  bool // the next answer is cut
	skip     int  // packets that pass before: some drivers prepare a statement first
}

func newCutter(t *testing.T, target string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cutter{Listener: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			end := func() { client.Close(); server.Close() }
			go c.pipe(server, client, &c.requests, end)
			go c.pipe(client, server, &c.answers, end)
		}
	}()
	return c
}

func (c *cutter) pipe(to io.Writer, from io.Reader, cut *bool, end func()) {
	defer end()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		c.mu.Lock()
		now := *cut && c.skip == 0
		if *cut && !now {
			c.skip--
		}
		*cut = *cut && !now
		c.mu.Unlock()
		if err != nil || now {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (c *cutter) cut(requests, answers bool, skip int) {
	c.mu.Lock()
	c.requests, c.answers, c.skip = requests, answers, skip
	c.mu.Unlock()
}

// TestEngineCut: a connection that is cut in the middle of a rotation is an error, and never a
// lost or a doubled rotation: the session has the old or the new generation, and the next call
// works, over a new connection.
func TestEngineCut(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		st, db := e.store(t)
		var c *cutter
		var cutDB *sql.DB
		if e.dialect == sqlstore.MySQL {
			config, err := mysql.ParseDSN(mysqlDSN())
			require.NoError(t, err)
			c = newCutter(t, config.Addr)
			config.Addr, config.InterpolateParams = c.Addr().String(), true
			require.NoError(t, db.QueryRowContext(t.Context(), "SELECT DATABASE()").Scan(&config.DBName))
			cutDB = opened(t, "mysql", config.FormatDSN())
		} else {
			config, err := url.Parse(postgresqlDSN())
			require.NoError(t, err)
			c = newCutter(t, config.Host)
			var name string
			require.NoError(t, db.QueryRowContext(t.Context(), "SELECT current_schema()").Scan(&name))
			q := config.Query()
			q.Set("search_path", name)
			config.Host, config.RawQuery = c.Addr().String(), q.Encode()
			driver := "pgx"
			if strings.HasSuffix(e.name, "pq") {
				driver = "postgres"
			}
			cutDB = opened(t, driver, config.String())
		}
		cutDB.SetMaxOpenConns(1)
		through, err := sqlstore.New(cutDB, sqlstore.Config{Dialect: e.dialect})
		require.NoError(t, err)
		now := time.Now().Truncate(time.Microsecond)
		require.NoError(t, st.Sessions.Create(t.Context(), &oauth2pw.Session{
			ID: "a", UserID: "1", CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(time.Hour),
		}))
		lost, failed, again := 0, 0, 0
		for i := range 40 {
			s, err := through.Sessions.Get(t.Context(), "a") // the next call works
			require.NoError(t, err, "round %d", i)
			from := s.Generation
			s.Generation++
			c.cut(i%2 == 0, i%2 == 1, i/2%2)
			ok, err := through.Sessions.Advance(t.Context(), from, s, now)
			c.cut(false, false, 0)
			after, readErr := st.Sessions.Get(t.Context(), "a") // past the proxy
			require.NoError(t, readErr)
			switch {
			case err != nil:
				failed++
				require.Contains(t, []uint64{from, from + 1}, after.Generation)
				if after.Generation == from+1 {
					lost++ // the database has rotated, and nobody knows: a repeat gets the same successor
				}
			case ok:
				require.Equal(t, from+1, after.Generation)
			default:
				// The driver has sent the statement again, after the first one had rotated: the
				// loser of a rotation reads the session once more.
				again++
				require.Equal(t, from+1, after.Generation)
			}
		}
		t.Logf("of 40 rotations %d failed, %d of these had happened, and %d were sent twice by the driver", failed, lost, again)
		require.Positive(t, failed+again)
	})
}
