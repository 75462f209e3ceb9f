package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// nginx keeps answers in files, which the kernel keeps in memory.
var nginx = answering{
	name: "nginx, proxy_cache",
	open: answers{program: &program{binary: "nginx", debian: "nginx-light", version: "-v", command: startNginx}},
}

// varnish keeps answers in memory.
var varnish = answering{
	name: "varnish",
	open: answers{program: &program{binary: "varnishd", debian: "varnish", version: "-V", command: startVarnish}},
}

// nginxConfig takes the directory, user's line, address and origin.
const nginxConfig = `
daemon off;
worker_processes auto;
pid %[1]s/pid;
%[2]s
events { worker_connections 1024; }
http {
	access_log off;
	sendfile on;
	keepalive_requests 1000000000;
	keepalive_timeout 1h;
	open_file_cache max=1000 inactive=1h;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	proxy_cache_path %[1]s/cache levels=1:2 keys_zone=pages:10m inactive=1h use_temp_path=off;
	server {
		listen %[3]s;
		location / {
			proxy_pass http://%[4]s;
			proxy_cache pages;
		}
	}
}
`

func startNginx(binary, dir, addr, origin string) (*exec.Cmd, error) {
	user := ""
	if os.Getuid() == 0 {
		user = "user root root;" // who else may not read dir
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, nginxConfig, dir, user, addr, origin), 0o600); err != nil {
		return nil, err
	}
	return exec.Command(binary, "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", file), nil
}

// startVarnish leaves Varnish its own settings, but for the jail, whose user may not
// read dir, and how long a client's connection may be idle.
func startVarnish(binary, dir, addr, origin string) (*exec.Cmd, error) {
	return exec.Command(binary, "-F", "-j", "none", "-n", filepath.Join(dir, "work"), "-a", addr, "-b", origin,
		"-s", "malloc,256m", "-p", "timeout_idle=3600"), nil
}
