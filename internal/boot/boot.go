// Package boot is what both programs do from their arguments to their exit code: it turns settings into the options of the rooms, waits for
// Redis, reads files again and says which build this is. It imports neither bank.
package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/pkg/notify"
)

const (
	openTimeout = 3 * time.Second // of one attempt to open the store
	openPause   = time.Second     // between two
)

// Open waits until Redis answers: a program that starts before its Redis is alive, but not ready. A Redis that another schema or another number of
// partitions lives in is an error. open is the Store's Open or OpenWriter. It returns nil when ctx ends.
func Open(ctx context.Context, open func(context.Context) error, log *slog.Logger) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for told := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		attempt, cancel := context.WithTimeout(ctx, openTimeout)
		err := open(attempt)
		cancel()
		if !errors.Is(err, notify.ErrUnavailable) {
			return err
		}
		if !told {
			log.Warn("waiting_for_redis", "error", err)
			told = true
		}
		pause.Reset(openPause)
	}
}

// LogRedis puts what go-redis would write to stderr as plain text into a log, for the whole process.
func LogRedis(log *slog.Logger) { redis.SetLogger(redisLog{log}) }

type redisLog struct{ log *slog.Logger }

// Printf is go-redis' logging interface.
func (l redisLog) Printf(_ context.Context, format string, v ...any) {
	l.log.Debug("redis_client", "message", fmt.Sprintf(format, v...))
}
