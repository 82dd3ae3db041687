package otlp

import (
	"bytes"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
)

// fieldName is the name of a field of an ending's JSON.
type fieldName struct {
	path      string // with the objects around it, for example actor.pid
	key       string // without them: pid
	inner     string // what the paths of its fields begin with if it is an object: the path and a point
	attribute string // the name of the attribute; "": it is none
}

// field is a field of an ending that is no object.
type field struct {
	*fieldName
	value *common.AnyValue
}

// read sets m.fields to the fields of an ending, sorted by path. It reads tokens, because encoding/json would allocate
// maps, all names and all values first: more than the record itself.
func (m *mapping) read(ending []byte) error {
	m.fields = m.fields[:0]
	m.decoder.Reset(bytes.NewBuffer(ending)) // a bytes.Buffer is not copied
	if err := m.readObject(""); err != nil {
		return err
	}
	slices.SortFunc(m.fields, func(a, b field) int { return strings.Compare(a.path, b.path) })
	return nil
}

// readObject reads the next object, and the objects in it. The paths of its fields begin with within.
func (m *mapping) readObject(within string) error {
	if _, err := m.decoder.ReadToken(); err != nil { // the brace
		return err
	}
	for m.decoder.PeekKind() != jsontext.KindEndObject {
		quoted, err := m.decoder.ReadValue()
		if err != nil {
			return err
		}
		name := m.name(within, quoted)
		if m.decoder.PeekKind() == jsontext.KindBeginObject {
			err = m.readObject(name.inner)
		} else {
			err = m.readField(name)
		}
		if err != nil {
			return err
		}
	}
	_, err := m.decoder.ReadToken()
	return err
}

// name returns the name of a field, and makes it if it is new. All endings together have about 120.
func (m *mapping) name(within string, quoted jsontext.Value) *fieldName {
	m.path, _ = jsontext.AppendUnquote(append(m.path[:0], within...), quoted) // the decoder has checked it
	if name, ok := m.names[string(m.path)]; ok {
		return name
	}
	path := string(m.path)
	name := &fieldName{path: path, key: path[len(within):], inner: path + ".", attribute: m.attributeOf(path)}
	m.names[path] = name
	return name
}

// readField reads the next value, which is no object. There is nothing to send of null.
func (m *mapping) readField(name *fieldName) error {
	value, err := m.readValue(name)
	if value != nil {
		m.fields = append(m.fields, field{name, value})
	}
	return err
}

func (m *mapping) readValue(name *fieldName) (*common.AnyValue, error) {
	token, err := m.decoder.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case jsontext.KindString:
		return textValue(m.text(name, token.String())), nil
	case jsontext.KindTrue, jsontext.KindFalse:
		return &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: token.Bool()}}, nil
	case jsontext.KindNumber:
		n, err := token.Int()
		if err != nil {
			return textValue(token.String()), nil // beyond 2⁶³
		}
		return intValue(n), nil
	case jsontext.KindBeginArray:
		return m.readArray(name)
	}
	return nil, nil
}

// readArray reads the elements of an array, which has none that are objects.
func (m *mapping) readArray(name *fieldName) (*common.AnyValue, error) {
	array := &common.ArrayValue{}
	for m.decoder.PeekKind() != jsontext.KindEndArray {
		element, err := m.readValue(name)
		if err != nil {
			return nil, err
		}
		array.Values = append(array.Values, element)
	}
	_, err := m.decoder.ReadToken()
	return &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: array}}, err
}
