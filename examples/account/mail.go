package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// First a handler adds a job to the outbox, and answers. Next the goroutine of the outbox runs
// the job, which returns a mail or none. Last the outbox prints the mail. No request waits
// for a mail, so that the time of an answer does not show whether there was one.
//
// An app calls its mail service in send. A service that is often down needs a table of mails
// instead of a channel: the channel loses its mails when the process is killed.

// mail is a mail, before its text is written. The text says for each kind:
//
//   - verify: a link with the token, and "if you did not ask for this, ignore it"
//   - taken: you have an account already, and may have forgotten its password
//   - reset: a link with the token
//   - changed: the password was changed; if not by you, reset it
//   - new_place: a login from a new address or device
type mail struct {
	To    string `json:"to"`
	Kind  string `json:"kind"`
	Token string `json:"token"` // "": the mail has no link
}

// job makes a mail; nil: no mail.
type job func(ctx context.Context) (*mail, error)

const (
	outboxSize = 1000             // jobs that wait
	mailTime   = 10 * time.Second // the time limit of one job
)

type outbox struct {
	w      io.Writer
	logger *slog.Logger
	jobs   chan job
	stop   chan struct{}
	done   chan struct{}
}

func newOutbox(w io.Writer, logger *slog.Logger) *outbox {
	return &outbox{w, logger, make(chan job, outboxSize), make(chan struct{}), make(chan struct{})}
}

// add adds a job and does not wait. The error is an answer: the outbox is full.
func (o *outbox) add(j job) error {
	select {
	case o.jobs <- j:
		return nil
	default:
		return &oauth2pw.Error{Code: "temporarily_unavailable", RetryAfter: time.Second}
	}
}

// run sends the mails, in order, until close.
func (o *outbox) run() {
	defer close(o.done)
	for {
		select {
		case j := <-o.jobs:
			o.do(j)
		case <-o.stop:
			for len(o.jobs) > 0 {
				o.do(<-o.jobs)
			}
			return
		}
	}
}

// close waits for the mails of earlier calls of add. Later jobs are lost.
func (o *outbox) close() {
	close(o.stop)
	<-o.done
}

func (o *outbox) do(j job) {
	ctx, cancel := context.WithTimeout(context.Background(), mailTime)
	defer cancel()
	m, err := j(ctx)
	if err == nil && m != nil {
		err = o.send(m)
	}
	if err != nil {
		o.logger.Error("a mail is not sent", "err", err)
	}
}

func (o *outbox) send(m *mail) error {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]*mail{"mail": m}); err != nil {
		return err
	}
	_, err := o.w.Write(line.Bytes())
	return err
}

// mailUser adds a mail without a token to the verified address of a user.
func (a *app) mailUser(userID, kind string) {
	err := a.mails.add(func(ctx context.Context) (*mail, error) {
		u, err := a.readUser(ctx, userID)
		if errors.Is(err, sql.ErrNoRows) { // deleted meanwhile
			return nil, nil
		}
		return &mail{To: u.email, Kind: kind}, err
	})
	if err != nil {
		a.logger.Error("a mail is not sent", "kind", kind, "user", userID, "err", err)
	}
}
