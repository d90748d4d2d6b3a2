package ops

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
)

// levels are the ones that can be set, from the most that is logged to the least.
var levels = []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

const wantLevel = "expected a body of debug, info, warn or error"

// A level shows and sets how much is logged from now on, until the program ends:
//
//	curl http://localhost:9090/log/level
//	curl -X PUT -d debug http://localhost:9090/log/level
type level struct {
	now *slog.LevelVar
	log *slog.Logger
}

func (l level) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPut:
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64))
		to, ok := parseLevel(string(body))
		if err != nil || !ok {
			http.Error(w, wantLevel, http.StatusBadRequest)
			return
		}
		l.set(r, to)
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT")
		http.Error(w, "expected GET or PUT", http.StatusMethodNotAllowed)
		return
	}
	_, _ = io.WriteString(w, word(l.now.Level())+"\n")
}

// set changes the level. It is said while the wider of both holds, at info or, where that is not heard, as quietly as is.
func (l level) set(r *http.Request, to slog.Level) {
	from := l.now.Level()
	l.now.Set(min(from, to))
	l.log.Log(r.Context(), max(slog.LevelInfo, min(from, to)), "log_level_changed", "from", word(from), "to", word(to))
	l.now.Set(to)
}

func word(l slog.Level) string { return strings.ToLower(l.String()) }

func parseLevel(text string) (slog.Level, bool) {
	for _, l := range levels {
		if word(l) == strings.TrimSpace(text) {
			return l, true
		}
	}
	return 0, false
}
