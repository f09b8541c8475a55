module github.com/privyseal/privyseal/lab/pause

go 1.26.0
