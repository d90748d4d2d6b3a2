package wire

import (
	"allim/pkg/notify"
)

// Why a notification leaves.
const (
	retracted = "retracted" // its publisher took it back
	expired   = "expired"   // its time is over
	muted     = "muted"     // the user does not want its category; see Muted
)

// Message makes the bytes of one change of a stream: message, notification, update, retract, preferences, or badge with its change. Without counts where they
// are of the past: recovered frames carry none. It knows no frame for a notify.ChangeUnknown: nil.
func Message(topic notify.Topic, m *notify.Message, counts bool) []byte {
	b := make([]byte, 0, len(m.Data)+len(topic)+256)
	mark := notify.MarkName(m.Change)
	switch {
	case m.Change == notify.ChangeUnknown:
		return nil
	case mark != "":
		b = appendPlace(b, "badge", topic, m)
		b = appendCounts(b, m, counts)
		b = append(b, `,"change":{"`...)
		b = append(b, mark...)
		b = append(b, `":`...)
		b = append(appendList(b, m.IDs), '}')
	case m.Change == notify.ChangePreferences:
		b = appendPlace(b, "preferences", topic, m)
		b = append(b, `,"mute":`...)
		b = appendList(b, m.IDs)
	case m.Change == notify.ChangeUpdate:
		b = appendPlace(b, "update", topic, m)
		b = appendField(b, "id", m.ID)
		b = appendData(b, m.Data)
	case m.Change == notify.ChangeRetract:
		b = appendGone(b, topic, m, retracted)
		b = appendCounts(b, m, counts)
	case m.Change == notify.ChangeExpire:
		b = appendGone(b, topic, m, expired)
		b = appendCounts(b, m, counts)
	case m.Change == notify.ChangeNotification:
		b = appendNotification(b, topic, m)
		b = appendCounts(b, m, counts)
	default:
		b = appendPlace(b, "message", topic, m)
		b = appendField(b, "id", m.ID)
		b = appendOptional(b, "event", m.Event)
		b = appendField(b, "time", timeText(m.Time))
		b = appendData(b, m.Data)
	}
	if m.Replayed {
		b = append(b, `,"replayed":true`...)
	}
	return append(b, '}')
}

// Muted stands in for a segment's notification that the user does not want: it has its place, so that positions have no holes.
func Muted(topic notify.Topic, m *notify.Message) []byte {
	return append(appendGone(make([]byte, 0, len(topic)+128), topic, m, muted), '}')
}

func appendNotification(b []byte, topic notify.Topic, m *notify.Message) []byte {
	b = appendPlace(b, "notification", topic, m)
	b = appendField(b, "id", m.ID)
	b = appendOptional(b, "category", m.Category)
	b = appendField(b, "time", timeText(m.Time))
	if !m.ExpiresAt.IsZero() {
		b = appendField(b, "expires_at", timeText(m.ExpiresAt))
	}
	b = appendOptional(b, "replaces", m.Replaces)
	return appendData(b, m.Data)
}

func appendGone(b []byte, topic notify.Topic, m *notify.Message, reason string) []byte {
	b = appendPlace(b, "retract", topic, m)
	b = appendField(b, "id", m.ID)
	return appendField(b, "reason", reason)
}

// appendPlace begins a frame.
func appendPlace(b []byte, typ string, topic notify.Topic, m *notify.Message) []byte {
	b = append(b, `{"type":"`...)
	b = append(append(b, typ...), '"')
	b = appendField(b, "topic", string(topic))
	if m.Change != notify.ChangeEphemeral {
		b = appendField(b, "pos", m.Position.String())
	}
	return b
}

func appendCounts(b []byte, m *notify.Message, counts bool) []byte {
	if counts {
		return appendBadge(b, m.Badge)
	}
	return b
}

func appendData(b, data []byte) []byte {
	b = append(b, `,"data":`...)
	if len(data) == 0 {
		return append(b, "null"...)
	}
	return append(b, data...)
}

func appendList(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}
