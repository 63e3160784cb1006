package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/hasher"
)

type apps struct {
	*testing.T
	app, watch *httptest.Server
}

func start(t *testing.T) *apps {
	t.Helper()
	h, err := hasher.New(hasher.Config{InsecureParams: true, Params: hasher.Params{Memory: 64, Time: 1, Threads: 1}})
	require.NoError(t, err)
	app, watch, err := newApp(t.Context(), h)
	require.NoError(t, err)
	a := &apps{t, httptest.NewServer(app), httptest.NewServer(watch)}
	t.Cleanup(a.app.Close)
	t.Cleanup(a.watch.Close)
	return a
}

func (a *apps) post(path string, form ...string) map[string]any {
	a.Helper()
	resp, err := http.Post(a.app.URL+path, "application/x-www-form-urlencoded", strings.NewReader(strings.Join(form, "&")))
	require.NoError(a, err)
	defer resp.Body.Close()
	var answer map[string]any
	require.NoError(a, json.NewDecoder(resp.Body).Decode(&answer))
	return answer
}

// use makes something happen of every kind that the dashboard shows.
func (a *apps) use() {
	a.Helper()
	got := a.post("/token", "grant_type=password&username=johndoe&password=secret")
	first := fmt.Sprint(got["refresh_token"])
	for range 3 {
		got = a.post("/token", "grant_type=refresh_token&refresh_token="+fmt.Sprint(got["refresh_token"]))
	}
	require.Equal(a, "invalid_grant", a.post("/token", "grant_type=refresh_token&refresh_token="+first)["error"], "reuse")
	for i := range 12 {
		a.post("/token", fmt.Sprint("grant_type=password&username=nobody&password=CANARY", i))
	}
	a.post("/token", "grant_type=password&username=johndoe&password=secret&client_id=CANARY&client_secret=CANARY")
	r, err := http.NewRequest("GET", a.app.URL+"/me", nil)
	require.NoError(a, err)
	r.Header.Set("Authorization", "Bearer CANARY")
	resp, err := http.DefaultClient.Do(r)
	require.NoError(a, err)
	resp.Body.Close()
	require.Equal(a, 401, resp.StatusCode)
}

func (a *apps) metrics() string {
	a.Helper()
	resp, err := http.Get(a.watch.URL + "/metrics")
	require.NoError(a, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(a, err)
	return string(data)
}

// TestMetrics: what happened is counted, and nothing that a stranger sent is a label.
func TestMetrics(t *testing.T) {
	a := start(t)
	a.use()
	text := a.metrics()
	for _, line := range []string{
		`passwordflow_logins_total{client_id="",grant="password",outcome="ok"} 1`,
		`passwordflow_logins_total{client_id="",grant="password",outcome="login_failed"} 10`,
		`passwordflow_throttled_total{kind="password"} 2`,
		`passwordflow_refreshes_total{outcome="refresh"} 3`,
		`passwordflow_refreshes_total{outcome="refresh_reuse"} 1`,
		`passwordflow_sessions_ended_total{reason="reuse"} 1`,
		`passwordflow_tokens_refused_total{code="invalid_token"} 1`,
		`passwordflow_client_failures_total{reason="unknown_client"} 1`,
		`passwordflow_hash_slots 2`,
		`passwordflow_hash_queue_waiting 0`,
	} {
		require.Contains(t, text, line+"\n")
	}
	require.NotContains(t, text, "CANARY")
}

// queries are those of the dashboard and of the rules.
func queries(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile("grafana.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(data, &dashboard))
	var list []string
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			list = append(list, strings.ReplaceAll(target.Expr, "$__rate_interval", "1m"))
		}
	}
	require.Len(t, list, 12)
	return list
}

// TestNames: the dashboard and the rules name no metric that there is not.
func TestNames(t *testing.T) {
	a := start(t)
	a.use()
	known := a.metrics()
	rules, err := os.ReadFile("rules.yml")
	require.NoError(t, err)
	names := regexp.MustCompile(`passwordflow_[a-z_]+`).FindAllString(strings.Join(queries(t), "\n")+string(rules), -1)
	require.Greater(t, len(names), 15)
	seldom := map[string]bool{"passwordflow_failures_total": true, "passwordflow_hash_upgrades_total": true} // none has happened
	for _, name := range names {
		require.True(t, seldom[name] || strings.Contains(known, "# TYPE "+name+" "), name)
	}
}

// TestPrometheus lets a real Prometheus read the app, asks it what the dashboard asks,
// and has promtool check the rules. .ci/metrics installs both and names the folder
// that they are in.
func TestPrometheus(t *testing.T) {
	bin := os.Getenv("PROMETHEUS_BIN")
	if bin == "" {
		t.Skip("PROMETHEUS_BIN is not set; see .ci/metrics")
	}
	for _, args := range [][]string{{"check", "rules", "rules.yml"}, {"test", "rules", "rules_test.yml"}} {
		out, err := exec.Command(filepath.Join(bin, "promtool"), args...).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	a := start(t)
	check := exec.Command(filepath.Join(bin, "promtool"), "check", "metrics")
	check.Stdin = strings.NewReader(regexp.MustCompile(`(?m)^.*(go_|process_|promhttp_).*\n`).ReplaceAllString(a.metrics(), ""))
	out, err := check.CombinedOutput()
	require.NoError(t, err, string(out))

	dir := t.TempDir()
	rules, err := filepath.Abs("rules.yml")
	require.NoError(t, err)
	config := fmt.Sprintf("global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}\nrule_files: [%s]\nscrape_configs:\n- job_name: app\n  static_configs: [{targets: [%q]}]\n",
		rules, strings.TrimPrefix(a.watch.URL, "http://"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	l.Close()
	server := exec.Command(filepath.Join(bin, "prometheus"), "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	var log strings.Builder
	server.Stdout, server.Stderr = &log, &log
	require.NoError(t, server.Start())
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })

	ask := func(query string) (values int, err error) {
		resp, err := http.Get("http://" + address + "/api/v1/query?query=" + url.QueryEscape(query))
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		var answer struct {
			Status, Error string
			Data          struct{ Result []any }
		}
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			return 0, err
		}
		if answer.Status != "success" {
			return 0, fmt.Errorf("%s: %s", query, answer.Error)
		}
		return len(answer.Data.Result), nil
	}
	has := func(query string) func() bool {
		return func() bool { n, err := ask(query); return err == nil && n > 0 }
	}
	require.Eventually(t, has(`passwordflow_hash_slots`), time.Minute, 100*time.Millisecond, "it scrapes")
	a.use()
	require.Eventually(t, has(`passwordflow_refreshes_total{outcome="refresh_reuse"} > 0`), time.Minute, 100*time.Millisecond)
	for _, query := range queries(t) {
		if strings.Contains(query, "failures_total[") && !strings.Contains(query, "client") || strings.Contains(query, "upgrades") {
			n, err := ask(query)
			require.NoError(t, err, "none has happened, but the query is good")
			require.Zero(t, n)
			continue
		}
		require.Eventually(t, has(query), time.Minute, 100*time.Millisecond, query)
	}
	require.Eventually(t, has(`ALERTS{alertname="RefreshTokenReused",alertstate="firing"}`), time.Minute, 100*time.Millisecond, "the alarm rings")
}
