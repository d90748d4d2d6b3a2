package ws

// An afterStorm tells when many connections have come and no more do. A handshake leaves garbage behind that is larger than what stays of the connection,
// in the HTTP server's buffers foremost, and Go's heap would keep room for as much again: 3 of 14 KB for each connection at 10,000. Given back then, it costs
// one collection for a storm, and nothing on the way of a message. The zero value has seen none come.
type afterStorm struct {
	seen, tidied uint64 // of all that ever came
}

// stormSize is how many are many, where they are more than a quarter of all there are, too.
const stormSize = 1000

// calm is asked about once a second, with how many ever came and how many there are.
func (a *afterStorm) calm(came uint64, all int) bool {
	still := came == a.seen
	a.seen = came
	if !still || came-a.tidied < max(stormSize, uint64(all)/4) {
		return false
	}
	a.tidied = came
	return true
}
