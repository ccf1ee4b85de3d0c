package backup_test

import (
	"bytes"
	"fmt"
	"log"

	"github.com/protocol7/snakes/node/backup"
)

func ExampleVerify() {
	var file bytes.Buffer
	w, err := backup.NewWriter(&file, someHeader, dots(9))
	if err != nil {
		log.Fatal(err)
	}
	for _, record := range someRecords() {
		if err := w.Write(record); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := w.Close(dots(2)); err != nil {
		log.Fatal(err)
	}
	whole := file.Len()

	header, trailer, err := backup.Verify(bytes.NewReader(file.Bytes()))
	fmt.Println(header.Cluster, trailer.Keys, trailer.Deletions, err)
	_, _, err = backup.Verify(bytes.NewReader(file.Bytes()[:whole-1]))
	fmt.Println(err)
	// Output:
	// snakes 3 1 <nil>
	// not a whole backup: at byte 553: it ends here
}
