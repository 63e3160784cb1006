package main

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// maxIdle is the number of connections that may wait for their next request. Each takes
// about 20 KiB.
const maxIdle = 1000

// idleConns closes the connection that has been idle longest if more than maxIdle are idle.
// The method changed is a ConnState hook of an http.Server.
type idleConns struct {
	mu    sync.Mutex
	order list.List // the longest idle first
	of    map[net.Conn]*list.Element
}

func (i *idleConns) changed(c net.Conn, state http.ConnState) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if e, idle := i.of[c]; idle {
		i.order.Remove(e)
		delete(i.of, c)
	}
	if state != http.StateIdle {
		return
	}
	if i.of == nil {
		i.of = make(map[net.Conn]*list.Element)
	}
	i.of[c] = i.order.PushBack(c)
	if i.order.Len() > maxIdle {
		oldest, _ := i.order.Front().Value.(net.Conn)
		_ = oldest.Close() // the server then calls changed with http.StateClosed
	}
}
