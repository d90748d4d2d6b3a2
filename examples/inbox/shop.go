package inbox

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// mostOrders bounds the memory of the shop, and the page that /api/orders answers.
const mostOrders = 200

var (
	errNoOrder   = errors.New("no such order")
	errChanged   = errors.New("the order was changed by somebody else")
	errDelivered = errors.New("the order is delivered already")
	errFull      = errors.New("the shop is full")
)

// An order goes through these states, in this order.
const (
	stateNew       = "new"
	statePacked    = "packed"
	stateShipped   = "shipped"
	stateDelivered = "delivered"
)

var nextState = map[string]string{stateNew: statePacked, statePacked: stateShipped, stateShipped: stateDelivered}

// An order is one row of the table: what GET /api/orders lists and what a message on Topic carries as its data.
type order struct {
	ID         int       `json:"id"`
	Customer   string    `json:"customer"`
	Lines      []line    `json:"lines"`
	TotalCents int       `json:"total_cents"` // euro cents
	Status     string    `json:"status"`
	Version    int64     `json:"version"`    // of this order: a higher one replaces a lower one, never the other way
	ChangedBy  string    `json:"changed_by"` // name of a colleague; empty: the shop's own stock of examples
	ChangedAt  time.Time `json:"changed_at"`
}

type line struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// A shop holds the orders, in memory: they are gone when the process ends.
type shop struct {
	mu      sync.Mutex // guards the fields below; nothing is called while it is held
	orders  []order    // in order of id; lines are never changed
	version int64      // the last one given to any order
}

// openShop returns a shop with some orders. Versions count up from the millisecond of the start, so that they are higher
// than those of an earlier process, and so are the ids of messages made from them: Allim would take a repeated one for a
// repetition and send nothing. They stay below 2^53, which is what JavaScript counts exactly.
func openShop(now time.Time) *shop {
	s := &shop{version: now.UnixMilli()}
	states := []string{stateDelivered, stateShipped, stateShipped, statePacked, stateNew, stateNew}
	for i, state := range states {
		at := now.Add(-time.Duration(len(states)-i) * 17 * time.Minute)
		s.orders = append(s.orders, s.makeLocked(i, state, "", at))
	}
	return s
}

// list returns all orders, newest first, and the version up to which they are complete.
func (s *shop) list() ([]order, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := slices.Clone(s.orders)
	slices.Reverse(rows)
	return rows, s.version
}

// create takes a new order from a customer of its own choice.
func (s *shop) create(by string, now time.Time) (order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.orders) >= mostOrders {
		return order{}, errFull
	}
	row := s.makeLocked(rand.IntN(len(customers)*len(baskets)), stateNew, by, now)
	s.orders = append(s.orders, row)
	return row, nil
}

// advance moves an order to its next state if it still is at the version that the caller saw; so two people who press the
// same button move it once. With errChanged and errDelivered the order is returned as it stands.
func (s *shop) advance(id int, seen int64, by string, now time.Time) (order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := slices.BinarySearchFunc(s.orders, id, func(o order, id int) int { return cmp.Compare(o.ID, id) })
	if !found {
		return order{}, errNoOrder
	}
	row := &s.orders[i]
	next, more := nextState[row.Status]
	switch {
	case row.Version != seen:
		return *row, errChanged
	case !more:
		return *row, errDelivered
	}
	row.Status, row.ChangedBy, row.ChangedAt = next, by, now.UTC()
	row.Version = s.nextVersionLocked()
	return *row, nil
}

// has says whether there is such an order.
func (s *shop) has(id int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.orders, func(o order) bool { return o.ID == id })
}

// stamp returns a version for something that is no order but needs an id that never comes again.
func (s *shop) stamp() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nextVersionLocked()
}

func (s *shop) nextVersionLocked() int64 {
	s.version++
	return s.version
}

// makeLocked makes the order that choice picks from the tables below.
func (s *shop) makeLocked(choice int, status, by string, at time.Time) order {
	id := 1041
	if n := len(s.orders); n > 0 {
		id = s.orders[n-1].ID + 1
	}
	basket := baskets[choice%len(baskets)]
	row := order{
		ID: id, Customer: customers[choice%len(customers)], Status: status,
		Version: s.nextVersionLocked(), ChangedBy: by, ChangedAt: at.UTC(),
	}
	for _, item := range basket {
		row.Lines = append(row.Lines, line{Name: item.name, Count: item.count})
		row.TotalCents += item.count * item.cents
	}
	return row
}

// what is in an order, in words: "2 × Oolong, Teapot".
func (o order) what() string {
	var words string
	for i, l := range o.Lines {
		if i > 0 {
			words += ", "
		}
		if l.Count > 1 {
			words += fmt.Sprintf("%d × ", l.Count)
		}
		words += l.Name
	}
	return words
}

var customers = []string{"Mira Castell", "Jonas Okafor", "Yuna Seo", "Tomas Lindqvist", "Amara Diallo", "Elif Demir", "Pavel Novak", "Rosa Marin", "Noor Haddad", "Kim Vermeer", "Ines Duarte"}

type item struct {
	name  string
	count int
	cents int // for one
}

var baskets = [][]item{
	{{"Oolong 100 g", 2, 1450}, {"Clay teapot", 1, 4800}},
	{{"Boston fern", 1, 2200}},
	{{"Sencha 50 g", 3, 980}, {"Bamboo whisk", 1, 1600}},
	{{"Copper kettle", 1, 8900}},
	{{"Jasmine pearls 50 g", 1, 1290}, {"Set of glass cups", 1, 2650}},
	{{"Maidenhair fern", 2, 1850}, {"Watering can", 1, 3400}},
	{{"Chamomile 80 g", 4, 720}},
}
