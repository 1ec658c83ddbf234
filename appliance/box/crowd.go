package box

import (
	"net"
	"sync"

	"sportello.example/provisioning/throttle"
)

const (
	// crowdHere is how many connections one machine may hold: a kiosk's browser has seven.
	crowdHere = 64
	// crowdAll is how many all may hold together: what a small box carries, with some 20 KiB for each.
	crowdAll = 1024
)

// crowd is a listener that closes at once what is more than one machine, or all together, may hold: otherwise anybody on
// the branch's network could take the kiosks the last descriptor, or the last memory.
type crowd struct {
	net.Listener

	mu   sync.Mutex
	open map[string]int // by throttle.Place
	all  int
}

func newCrowd(ln net.Listener) *crowd { return &crowd{Listener: ln, open: map[string]int{}} }

// Accept waits for a connection that there is room for.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		place := throttle.Place(conn.RemoteAddr().String())
		if c.enter(place) {
			return &guest{Conn: conn, leave: sync.OnceFunc(func() { c.leave(place) })}, nil
		}
		_ = conn.Close()
	}
}

func (c *crowd) enter(place string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= crowdAll || c.open[place] >= crowdHere {
		return false
	}
	c.all++
	c.open[place]++
	return true
}

func (c *crowd) leave(place string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.open[place]--; c.open[place] == 0 {
		delete(c.open, place)
	}
}

// guest is a connection that there was room for.
type guest struct {
	net.Conn
	leave func()
}

func (g *guest) Close() error {
	g.leave()
	return g.Conn.Close()
}
