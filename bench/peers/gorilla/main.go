// The hub of gorilla/websocket's chat example, with topics: one goroutine owns the membership, every
// client has a channel of 256 messages and a write pump, and the pump encodes JSON for each client, as
// is usual.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
)

const (
	writeWait  = 10 * time.Second
	pongWait   = 60 * time.Second
	pingPeriod = pongWait * 9 / 10
	queueSize  = 256
)

type payload struct {
	ID      string          `json:"id"`
	Payload json.RawMessage `json:"payload"`
}

type message struct {
	Type      string   `json:"type"`
	RequestID string   `json:"request_id,omitempty"`
	Topic     string   `json:"topic,omitempty"`
	Message   *payload `json:"message,omitempty"`
	Status    string   `json:"status,omitempty"`
	Error     string   `json:"error,omitempty"`
	TS        string   `json:"ts,omitempty"`
}

type client struct {
	hub  *hub
	conn *websocket.Conn
	send chan message
}

type command struct {
	client *client
	in     message
	done   chan bool
}

type hub struct {
	clients    map[*client]bool // whose channels are open
	topics     map[string]map[*client]bool
	register   chan *client
	commands   chan command
	unregister chan *client
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }

func (h *hub) run() {
	for {
		select {
		case c := <-h.register:
			h.clients[c] = true
		case c := <-h.unregister:
			h.remove(c)
		case cmd := <-h.commands:
			h.handle(cmd)
		}
	}
}

// The closed channel ends the write pump.
func (h *hub) remove(c *client) {
	if !h.clients[c] {
		return
	}
	delete(h.clients, c)
	close(c.send)
	for name, members := range h.topics {
		delete(members, c)
		if len(members) == 0 {
			delete(h.topics, name)
		}
	}
}

func (h *hub) handle(cmd command) {
	if cmd.client != nil && !h.clients[cmd.client] {
		return // the client was dropped before its last message was read
	}
	answer := message{Type: "ack", RequestID: cmd.in.RequestID, Topic: cmd.in.Topic, Status: "ok", TS: now()}
	switch cmd.in.Type {
	case "subscribe":
		if h.topics[cmd.in.Topic] == nil {
			h.topics[cmd.in.Topic] = make(map[*client]bool)
		}
		h.topics[cmd.in.Topic][cmd.client] = true
	case "publish":
		members, found := h.topics[cmd.in.Topic]
		if !found {
			answer = message{Type: "error", RequestID: cmd.in.RequestID, Error: "TOPIC_NOT_FOUND", TS: now()}
		}
		event := message{Type: "event", Topic: cmd.in.Topic, Message: cmd.in.Message, TS: now()}
		for c := range members {
			h.offer(c, event)
		}
		if cmd.done != nil {
			cmd.done <- found
		}
	}
	if h.clients[cmd.client] {
		h.offer(cmd.client, answer)
	}
}

// A full channel is a slow client: it is dropped.
func (h *hub) offer(c *client, m message) {
	select {
	case c.send <- m:
	default:
		h.remove(c)
	}
}

func (c *client) readPump() {
	defer func() {
		c.hub.unregister <- c
		c.conn.Close()
	}()
	c.conn.SetReadLimit(65536)
	c.conn.SetReadDeadline(time.Now().Add(pongWait))
	c.conn.SetPongHandler(func(string) error { return c.conn.SetReadDeadline(time.Now().Add(pongWait)) })
	for {
		var in message
		if err := c.conn.ReadJSON(&in); err != nil {
			return
		}
		c.hub.commands <- command{client: c, in: in}
	}
}

func (c *client) writePump() {
	ticker := time.NewTicker(pingPeriod)
	defer func() {
		ticker.Stop()
		c.conn.Close()
	}()
	for {
		select {
		case m, open := <-c.send:
			c.conn.SetWriteDeadline(time.Now().Add(writeWait))
			if !open {
				c.conn.WriteMessage(websocket.CloseMessage, nil)
				return
			}
			if err := c.conn.WriteJSON(m); err != nil {
				return
			}
		case <-ticker.C:
			c.conn.SetWriteDeadline(time.Now().Add(writeWait))
			if err := c.conn.WriteMessage(websocket.PingMessage, nil); err != nil {
				return
			}
		}
	}
}

func main() {
	h := &hub{make(map[*client]bool), make(map[string]map[*client]bool),
		make(chan *client), make(chan command, 256), make(chan *client)}
	go h.run()
	upgrader := websocket.Upgrader{ReadBufferSize: 1024, // a write takes the server's own buffer, of 4 KB
		CheckOrigin: func(*http.Request) bool { return true }}
	http.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		c := &client{h, conn, make(chan message, queueSize)}
		h.register <- c
		go c.writePump()
		go c.readPump()
	})
	http.HandleFunc("/publish", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Topic   string          `json:"topic"`
			Payload json.RawMessage `json:"payload"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		id := strconv.FormatInt(time.Now().UnixNano(), 10)
		in := message{Type: "publish", Topic: body.Topic, Message: &payload{id, body.Payload}}
		done := make(chan bool, 1)
		h.commands <- command{in: in, done: done}
		w.Header().Set("Content-Type", "application/json")
		if !<-done {
			w.WriteHeader(http.StatusNotFound)
		}
		json.NewEncoder(w).Encode(map[string]string{"status": "published"})
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
