// Receives bellpull's events: go run receive.go, with SECRET and PORT in the environment. It verifies with Go's own library; the module
// github.com/standard-webhooks/standard-webhooks/libraries/go does the same.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

var (
	lock    sync.Mutex
	applied = map[[3]string]uint64{} // stream, bridge, key: the last sequence. Keep it where your data is, and change both together.
)

func receive(key []byte, header http.Header, body []byte) int {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", header.Get("webhook-id"), header.Get("webhook-timestamp"), body)
	valid, want := false, []byte("v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	for _, token := range strings.Fields(header.Get("webhook-signature")) {
		valid = valid || hmac.Equal([]byte(token), want)
	}
	seconds, err := strconv.ParseInt(header.Get("webhook-timestamp"), 10, 64)
	if !valid || err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return http.StatusUnauthorized
	}
	var event struct {
		Type string
		Data struct {
			Stream, Bridge, Key string
			Sequence            uint64
		}
	}
	if json.Unmarshal(body, &event) != nil {
		return http.StatusBadRequest
	}
	lock.Lock()
	defer lock.Unlock()
	record := [3]string{event.Data.Stream, event.Data.Bridge, event.Data.Key}
	if event.Data.Sequence > applied[record] { // what tells of bellpull itself has none
		fmt.Println(event.Type, event.Data.Key, event.Data.Sequence) // apply it here
		applied[record] = event.Data.Sequence
	}
	return http.StatusNoContent
}

func main() {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("SECRET"), "whsec_"))
	if err != nil || len(key) == 0 {
		panic("SECRET has to be whsec_ and base64")
	}
	http.HandleFunc("/", func(answer http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(http.MaxBytesReader(answer, request.Body, 2<<20))
		answer.WriteHeader(receive(key, request.Header, body))
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
