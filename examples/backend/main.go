// Command backend is the smallest backend: it notifies one user and says what became of it.
//
//	ALLIM_KEY=… go run ./examples/backend ann "Your tea is here"
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	allimv1 "allim/proto/allim/v1"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal(`usage: ALLIM_KEY=… backend <user> <title>`)
	}
	conn, err := grpc.NewClient(cmp.Or(os.Getenv("ALLIM_PUBLISHER"), "127.0.0.1:50051"),
		grpc.WithTransportCredentials(insecure.NewCredentials())) // TLS outside your own machine
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+os.Getenv("ALLIM_KEY"))

	data, _ := json.Marshal(map[string]string{"title": os.Args[2]})
	reply, err := allimv1.NewPublisherClient(conn).Notify(ctx, &allimv1.NotifyRequest{
		Id:       fmt.Sprintf("backend-%d", time.Now().UnixNano()), // repeat a call with the same id: it counts once
		To:       &allimv1.Audience{Users: []string{os.Args[1]}},
		Category: "hello",
		Data:     data,
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range reply.Results {
		fmt.Printf("%s: %s, %d unread, position %s\n", r.User, r.Code, r.Unread, r.Pos)
	}
}
