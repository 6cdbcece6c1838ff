import sys, pathlib, os, json, time
sys.path.insert(0,'.')
import pytest
from tests.api.pages.conftest import site, store, store_directory, database, postgres, postgres_directory
OUT = pathlib.Path('/tmp/w/pjob/shots'); OUT.mkdir(exist_ok=True)
WIDTHS = {'w1440':1440,'w820':820,'w360':360}
def big():
    from tests.api.service.job_service import request, axis
    r = request(windows=46, top_k=60, preselect=200)
    r["time_range"] = {"start":"2026-01-01T00:00:00Z","end":"2026-01-14T00:00:00Z"}
    t = r["template"]; t["timeframe"]="15m"
    t["indicator_grids"][1]["params"]["window"]={"mode":"range","start":5,"stop_incl":40,"step":1}
    t["signal_grids"]["momentum.rsi"]={"long_threshold":axis(48,50,52,54),"short_threshold":axis(46,48,50)}
    t["risk_grid"]={"sl_enabled":True,"sl":axis(1,2,3),"tp_enabled":True,"tp":axis(2,4)}
    r["validation"]={"holdout_fraction":0.25}
    return r
def test_serve(store, database, tmp_path):
    from tests.api.service.job_service import running, request, until_ended
    import httpx
    from playwright.sync_api import sync_playwright
    only = os.environ.get('ONLY','').split(',') if os.environ.get('ONLY') else None
    with site(store, database, tmp_path) as url, httpx.Client(base_url=url, timeout=240) as c:
        waiting = c.post('/backtests/jobs', json=request(windows=6)).json()['job_id']
        with sync_playwright() as p:
            b = p.chromium.launch(executable_path='/usr/bin/chromium', args=['--no-sandbox'])
            def shoot(names):
                for wn, w in WIDTHS.items():
                    for mode in ('light','dark'):
                        ctx = b.new_context(viewport={'width':w,'height':900}, color_scheme=mode)
                        t = ctx.new_page()
                        t.on('console', lambda m: print('CONSOLE', m.type, m.text) if m.type!='log' else None)
                        t.on('pageerror', lambda m: print('ERR', m))
                        for path, n in names:
                            if only and n not in only: continue
                            t.goto(url+path)
                            if n in('job','compare'):
                                t.wait_for_function("!document.querySelector('[aria-busy]')", timeout=60000)
                                if n=='job': t.wait_for_selector('#variant-body:not([hidden])', timeout=60000)
                                t.wait_for_timeout(1500)
                            else: t.wait_for_timeout(300)
                            over = t.evaluate("document.documentElement.scrollWidth - innerWidth")
                            if over>0: print('OVERFLOW', n, wn, over)
                            t.screenshot(path=str(OUT/f'{n}-{wn}-{mode}.png'), full_page=True)
                        ctx.close()
            shoot([(f'/backtests/jobs/{waiting}','queued')])
            with running(database, tmp_path):
                until_ended(c, waiting)
                r = c.post('/backtests/jobs', json=big()); print(r.text[:300]); job=r.json()['job_id']
                print(until_ended(c, job))
                print('url', url, job)
                if os.environ.get('HOLD'):
                    pathlib.Path('/tmp/w/pjob/url').write_text(f'{url} {job} {waiting}')
                    while not pathlib.Path('/tmp/w/pjob/stop').exists(): time.sleep(1)
                shoot([(f'/backtests/jobs/{job}','job'),(f'/backtests/jobs/compare?a={job}&b={waiting}','compare'),('/backtests/jobs','list')])
            b.close()
