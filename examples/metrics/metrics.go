package main

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// metrics counts events. The labels are words of the library and ids of clients, never text
// from a request: the number of labels is bounded.
type metrics struct {
	logins    *prometheus.CounterVec
	refreshes *prometheus.CounterVec
	ended     *prometheus.CounterVec
	tokens    *prometheus.CounterVec
	throttle  *prometheus.CounterVec
	clients   *prometheus.CounterVec
	failures  *prometheus.CounterVec
	upgrades  *prometheus.CounterVec
	proxies   prometheus.Counter
}

func newMetrics(registry *prometheus.Registry, h *hasher.Hasher) *metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "passwordflow", Name: name, Help: help}, labels)
		registry.MustRegister(c)
		return c
	}
	gauge := func(name, help string, value func(s hasher.Stats) int) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "passwordflow", Name: name, Help: help},
			func() float64 { return float64(value(h.Stats())) }))
	}
	gauge("hash_slots", "Passwords that may be hashed at once.", func(s hasher.Stats) int { return s.Slots })
	gauge("hash_slots_busy", "Slots that are taken.", func(s hasher.Stats) int { return s.Busy })
	gauge("hash_queue", "Callers that may wait for a slot.", func(s hasher.Stats) int { return s.Queue })
	gauge("hash_queue_waiting", "Callers that wait.", func(s hasher.Stats) int { return s.Waiting })
	m := &metrics{
		logins:    vec("logins_total", "Logins, by how they ended.", "grant", "client_id", "outcome"),
		refreshes: vec("refreshes_total", "Refreshes, by how they ended.", "outcome"),
		ended:     vec("sessions_ended_total", "Sessions that ended, by why.", "reason"),
		tokens:    vec("tokens_refused_total", "Bearer tokens that were refused, by the error code.", "code"),
		throttle:  vec("throttled_total", "Attempts that were blocked, by what was guessed at.", "kind"),
		clients:   vec("client_failures_total", "Clients that were not who they said, by why.", "reason"),
		failures:  vec("failures_total", "Plugs that failed.", "kind", "plug"),
		upgrades:  vec("hash_upgrades_total", "Outdated hashes that a login replaced, or could not.", "outcome"),
		proxies: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "passwordflow", Name: "unknown_proxy_total",
			Help: "Hours in which many clients may have shared an address, because of a proxy."}),
	}
	registry.MustRegister(m.proxies)
	// The counters of the alert rules begin at zero, so that the first event is an increase.
	m.refreshes.WithLabelValues(string(oauth2pw.EventRefreshReuse))
	m.refreshes.WithLabelValues(string(oauth2pw.EventStoreRollback))
	return m
}

// event is for Config.OnEvent.
func (m *metrics) event(_ context.Context, e oauth2pw.Event) {
	switch e.Kind {
	case oauth2pw.EventLogin:
		m.logins.WithLabelValues(e.Grant, e.ClientID, "ok").Inc()
	case oauth2pw.EventLoginFailed, oauth2pw.EventScopeRefused:
		m.logins.WithLabelValues(e.Grant, e.ClientID, string(e.Kind)).Inc()
	case oauth2pw.EventRefresh, oauth2pw.EventRefreshRepeat, oauth2pw.EventRefreshReuse, oauth2pw.EventRefreshFailed, oauth2pw.EventStoreRollback:
		m.refreshes.WithLabelValues(string(e.Kind)).Inc()
	case oauth2pw.EventSessionEnded:
		m.ended.WithLabelValues(string(e.Reason)).Inc()
	case oauth2pw.EventTokenRefused:
		m.tokens.WithLabelValues(e.Code).Inc()
	case oauth2pw.EventThrottled:
		m.throttle.WithLabelValues(string(e.Reason)).Inc()
	case oauth2pw.EventClientFailed:
		m.clients.WithLabelValues(string(e.Reason)).Inc()
	case oauth2pw.EventOverload, oauth2pw.EventUnavailable, oauth2pw.EventPanic:
		m.failures.WithLabelValues(string(e.Kind), e.Plug).Inc()
	case oauth2pw.EventHashUpgraded, oauth2pw.EventUpgradeFailed:
		m.upgrades.WithLabelValues(string(e.Kind)).Inc()
	case oauth2pw.EventUnknownProxy, oauth2pw.EventProxyHeader:
		m.proxies.Inc()
	}
}
